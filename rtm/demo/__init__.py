"""Something to try things on: `rtm serve --demo`.

license.py      the demo license and its tokens
credentials.py  what a client needs to use it
chat.py         its chat with history
"""

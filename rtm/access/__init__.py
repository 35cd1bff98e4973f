"""Who may do what.

identity.py    what a token says about its holder
scopes.py      every scope, the lowest role that may hold it, what contains what
tokens.py      minting and authentication
chats.py       whose chats a token reaches
bots.py        agents that act as bots
directory.py   a license's agents, groups and tags, as this process knows them
founding.py    the rows of a new license, its people and groups
watch.py       notices revoked tokens and changed directories
"""

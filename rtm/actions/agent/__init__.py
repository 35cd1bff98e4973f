"""The Agent Chat API.

structures.py  chats, threads and users as clients see them
chats.py       starting, resuming, ending and following
users.py       who takes part
transfers.py   giving a chat to others
events.py      what is said, typed, thought and seen
files.py       uploads
threads.py     threads of any age, their tags and summaries
properties.py  what integrations keep on chats, threads and events
customers.py   who customers are, and keeping them away
lists.py       reading chats, threads and customers, page by page
archives.py    threads of all chats, filtered and searched
sessions.py    logging in and out
statuses.py    who accepts chats
multicast.py   messages apart from chats
"""

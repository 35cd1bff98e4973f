"""The payload of each action, in the vocabulary of 3.6; `Payload.parse` checks one.

archives.py    threads of all chats, filtered and searched
chats.py       chats, their threads and their users
customers.py   who customers are, and keeping them away
events.py      what is said, typed, thought and seen in a chat, and multicast
files.py       uploads
properties.py  properties of chats, threads and events, and tags of threads
sessions.py    connections and routing statuses

Source: the public reference, "Methods" of the Agent Chat API.
"""

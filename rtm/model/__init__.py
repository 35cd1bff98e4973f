"""What a chat is, and what clients may say about it; no I/O.

chat.py             chats, threads and their users: the rules of their life
unsaved.py          what has changed of a chat since it was stored
customer.py         a customer, as far as commands need to know it
tracking.py         which customers a connection is told of
audience.py         who may see a push
labels.py           what the archives find a thread by, as tokens
search.py           what somebody searches for, and where a text has it
payload.py          what the payloads of requests are made of
requests/           the payload of each action
responses.py        what each action answers
pushes.py           what each push says
shown.py            the structures that both consist of
events.py           events as clients send them, and the body that everybody then sees
system_messages.py  what the server itself says in a chat
system_events.py    the same with JSON in place of a sentence
rich_messages.py    elements of rich messages: images, buttons, products
forms.py            fields of forms, empty and filled
files.py            which files may be uploaded, where they are found, what their events say
properties.py       properties of chats, threads and events
"""

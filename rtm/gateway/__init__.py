"""Sockets.

wire.py        one connection: RFC 6455, limits, the end
cork.py        frames that are written together
ring.py        one call of the kernel for the writes to many sockets
session.py     one client: log-in, pings, requests, good-bye
address.py     what a socket's address asks for
unsupported.py a client of a version that is not served
interest.py    which pushes a session has asked for and may see
hub.py         who is connected here, by license; the bus to other processes
room.py        the sessions of one license; takes pushes to them
groups_status.py  the push of that name, worked out of agents' statuses
tracking.py    the pushes about where customers are, worked out of those about their chats
customer_statistics.py  the push `customer_statistics_updated`, worked out of those about chats
fanout.py      what pushes cost
feed.py        a license's stored pushes in order, each once
drain.py       the end of a process, for its sockets
"""

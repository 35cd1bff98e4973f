"""What goes over the wire, as pure functions without I/O.

decoding.py    JSON as clients send it
envelope.py    requests, responses and pushes as bytes
errors.py      every error of the contract, with its HTTP status
identifiers.py ids of chats, threads and events
timestamps.py  RFC 3339 with microseconds, UTC
validation.py  pydantic's complaints in the protocol's words
"""

"""The catalogue: every action, declared once and served at every door.

registry.py   how an action is declared, and the list of all
context.py    what a handler is given
dispatch.py   from a request to its answer: version, scopes, quota, payload, handler
lane.py       the order of one connection's changes
shares.py     how many queries of a license run at once
outcomes.py   what became of requests, for the metrics and the log
pages.py      page ids: opaque, signed, good for a month
agent/        the Agent Chat API, a module a topic

A new action is a function in a module of its API's package; nothing else needs to know.
"""

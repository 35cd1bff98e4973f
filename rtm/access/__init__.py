"""Who may do what.

identity.py    what a token says about its holder
scopes.py      every scope, the lowest role that may hold it, what contains what
tokens.py      minting and authentication
directory.py   a license's agents, groups and tags, as this process knows them
watch.py       notices revoked tokens and changed directories
"""

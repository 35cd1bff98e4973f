"""Who may do what.

identity.py    what a token says about its holder
scopes.py      every scope, the lowest role that may hold it, what contains what
tokens.py      minting and authentication
attempts.py    how often somebody may try to log in
quota.py       how often something may be done within a minute
tally.py       what processes tell each other about their quotas
chats.py       whose chats a token reaches
bots.py        agents that act as bots
directory.py   a license's agents, groups and tags, as this process knows them
founding.py    the rows of a new license, its people and groups
watch.py       notices revoked tokens and changed directories
"""

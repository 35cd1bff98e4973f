"""Who is here, and who takes chats.

rules.py           how a license wants its chats to be routed
deadlines.py       when there is something to do with a chat
presence.py        the interface, the rule that makes a status out of what is known of an agent, and one process's own
presence_redis.py  for many processes, with presence.lua, a change, and heartbeat.lua, who lives
group_statuses.py  the statuses of groups, which follow from those of their agents
"""

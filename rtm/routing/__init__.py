"""Who is here, who takes chats, and who is given which.

rules.py           how a license wants its chats to be routed
presence.py        the interface, the rule that makes a status out of what is known of an agent, and one process's own
presence_redis.py  for many processes, with presence.lua, a change, and heartbeat.lua, who lives
group_statuses.py  the statuses of groups, which follow from those of their agents
assignment.py      which agent is given a chat
queue.py           the order of those who wait, and their places
situation.py       who waits on a license, and who could be given what
handover.py        a chat goes to others, or waits: one command's changes
announcement.py    what is told of them
unassigned.py      properties that say whether a chat has an agent
closing.py         how a chat ends, whoever ends it
restart.py         the time after a start in which agents come back
router.py          notices that something can be routed
timers.py          finds the chats that are due, on all licenses
deadlines.py       what is due in a chat, and when to look at it next
upkeep.py          what is done with a chat in which nobody writes
attendance.py      and with one whose agents are gone, or do not answer
followers.py       who follows a chat without the right to
"""

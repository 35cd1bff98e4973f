"""How pushes travel between the processes of one system.

base.py    the envelope and the interface, with what it promises
memory.py  the only process there is (or several hubs in one process)
redis.py   pub/sub
redis_script.py  pushes that a script in Redis publishes
"""

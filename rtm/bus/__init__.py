"""How pushes travel between the processes of one system.

base.py    the envelope and the interface, with what it promises
memory.py  the only process there is (or several hubs in one process)
redis.py   pub/sub
    redis_places.py      which server carries a channel: one server, the Sentinels' master, a Cluster's slots
    redis_shard.py       what this process says and hears at one server; its probe, its reconnecting
    redis_connection.py  the protocol on one connection
    redis_script.py      pushes that a script in Redis publishes
"""

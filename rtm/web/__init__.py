"""HTTP.

routes.py  the Web API: the same actions, one request at a time
bodies.py  request bodies of bounded size
http.py    heads of requests of bounded size
health.py  whether the process is up
"""

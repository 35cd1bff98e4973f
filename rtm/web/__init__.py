"""HTTP.

routes.py     the Web API: the same actions, one request at a time
browsers.py   pages of other origins may call it
documents.py  what is said of the API, to read and for programs
bodies.py     request bodies of bounded size
uploads.py    forms with a file, bounded in size, time and number
files.py      the files that were uploaded, for who has their URL
http.py       connections of bounded size and time
http2.py      the same for HTTP/2, where it is wanted
metrics.py    what a process, or all workers of one, tell Prometheus
health.py     whether the process is up, and ready
"""

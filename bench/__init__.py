"""The load-test harness: `python -m bench --help`.

    __main__.py   the command line
    fanout.py     one chat, many subscribers: what a delivered push costs
    requests.py   many connections, durable events: what an event costs
    idle.py       what a logged-in connection keeps in memory
    latency.py    how late pushes are at a fixed rate, with and without subscribers that never read
    cluster.py    1, 2 and 4 processes on PostgreSQL and Redis: what an event costs, and how late it is at a fixed rate
    bus.py        what a push costs the process that publishes it and the one that hears it
    archives.py   how long a list of archives takes over a year's history, by filter
    logins.py     what the log-in of an agent with many open chats costs
    history.py    a year's history, written fast
    databases.py  SQLite or PostgreSQL for a server of ours
    rounds.py     servers measured in turn, round by round
    clients.py    the load side: plain sockets
    agents.py     the load side's protocol: log in, ask, wait for the answer
    stage.py      a chat that many agents follow
    server.py     starts and stops the servers, reads their CPU time and memory
    peers/        what rtm is compared with
    report.py     table, Markdown, JSON, plot

Runs on Linux: what a server costs is read from the operating system.
"""

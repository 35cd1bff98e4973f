"""What is kept, in SQLite or PostgreSQL.

tables.py          every table, in one vocabulary for both
database.py        the engine, and whether the tables are those of this version
pools.py           the connections of a process, apart where nobody is to wait for the others
migrations/        how the tables came to be, step by step
lock.py            one process serves a database, or several that have Redis in common
writer.py          group commit: commands that arrive together are committed together
work.py            what one command sees and changes
sqlite.py          the writer's side of SQLite
postgresql.py      the writer's side of PostgreSQL
outbox.py          the outbox is kept short
kept_chats.py      chats that others change, too, in memory
rows.py            the rows that both of them write
chat_rows.py       how the row of a chat is read
queries.py         what is read of chats
customers.py       what is read of customers
files.py           files that were uploaded, in parts
archive.py         the list of archives
archive_search.py  what it asks its index for, in either database
archive_fts5.py    that index on SQLite
archive_gin.py     and on PostgreSQL
indexer.py         what it is found by, kept up to date
secrets.py         secrets that all processes share
"""

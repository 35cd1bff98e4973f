"""Summaries of threads.

transcript.py  what was said in a thread
extract.py     a summary without anybody's help: what was said first and last
endpoint.py    a summary by a language model
summaries.py   when one is made, where it is kept, and who is told
"""

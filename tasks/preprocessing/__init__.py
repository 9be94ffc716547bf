"""Shards of videos -> crops and tables; views of a store.

decode_pool.py    child processes that decode, with deadlines and memory limits
extract.py        one shard -> crop files and its two tables
collect.py        finished shards -> ``videos.parquet`` and ``manifest.parquet``
summary.py        counts and times of a run
normalise.py      videos -> the same videos in one profile
inspect.py        contact sheet of one video of a store, for people
contact_sheet.py  drawing of the sheet
steps.py          nodes of the DAG
"""

"""Durable data: what lies on disk or on object storage, under which names, in which columns.

layout.py        names of files and folders of a store, a checkpoint and a registry
outputs.py       names of the results that commands write
rows.py          the row of every table as a type; schemas.py lists the tables
columns.py       such types -> Arrow schemas
tables.py        rows <-> Parquet and CSV
results.py       result of preprocessing one content <-> its row
crops.py         crop sequences <-> crop files
checkpoints.py   model card and weights of a checkpoint folder; which version is in use
weights.py       tensors <-> weights files
refusals.py      paths that cannot be used
atomic.py        files that appear whole or not at all
lock.py          one run at a time per folder
scratch.py       a folder for the run only
hashing.py       SHA-256 of a file
checked          files that say by themselves whether they are as they were written
fetched          files of others in the user's cache
object_store     the same folders at a URL
"""

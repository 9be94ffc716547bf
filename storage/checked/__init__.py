"""Files that say by themselves whether they are as they were written.

seals.py         checksums inside a Parquet file
documents.py     JSON with a checksum
names.py         names, one on each line, with a checksum
sums.py          SHA256SUMS: checksums of files that carry none
settings.py      settings of a store, whose hash names its folder
"""

"""Folders on object storage.

objects.py  list, read and write objects
copies.py   working copies of a folder: pull and push
lease.py    one writer at a time
"""

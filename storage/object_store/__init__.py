"""Folders on object storage.

objects.py  list, read and write objects
web.py      read a file of a web server
copies.py   working copies of a folder: pull and push
lease.py    one writer at a time
"""

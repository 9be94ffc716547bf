"""Files of others in the user's cache.

cache.py      names of files and folders
downloads.py  fetch a file from a URL, a package index, a hub
"""

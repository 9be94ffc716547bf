"""Prefect's servers, which strangers cannot command.

__main__.py   the one that ``reelcheck serve`` starts: it answers its own hosts and pages only
login.py      the password for it, and who knows it
temporary.py  the one of a process that runs flows without an address
"""

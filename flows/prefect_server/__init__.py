"""Processes that ``reelcheck serve`` starts beside Prefect's own worker.

__main__.py  Prefect's server, which answers its own hosts and pages only
login.py     the password for it, and who knows it
"""

"""Weights that others have published.

catalogue.py  what each file is, where it lies, on which terms; catalogue.toml holds the entries
formats.py    formats that can be imported, and their options
"""

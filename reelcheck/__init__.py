"""Shared kernel: settings, records, statuses and errors. Imports nothing else of the project."""

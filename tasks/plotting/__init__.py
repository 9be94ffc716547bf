"""Shared by pictures and tables.

figure.py          size, colours, labels, saving
classification.py  confusion, ROC, precision and recall
markdown.py        tables for reports and artifacts
"""

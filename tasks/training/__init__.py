"""Manifest and split -> checkpoint.

train.py    a whole run: one detector, or one per fold; calibration; the model card
member.py   one detector, phase by phase
start.py    the weights that training starts from
features.py what a backbone that does not learn gives for every crop
rows.py     rows to learn from, and rows that choose the epoch
report.py   ``report.md`` and its pictures
curves.py   the report's curves over epochs
steps.py    nodes of the DAG
"""

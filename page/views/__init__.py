"""The pages that a visitor sees.

check.py      one file: upload, progress, verdict
detail.py     one row: player, timeline, faces
browse.py     a batch run
own_model.py  bring a model
runs.py       flows and models of the server
"""

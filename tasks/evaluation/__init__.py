"""A model on videos that it has never seen.

evaluate.py     every figure of a model
predictions.py  predictions on one split of a store, as a table with labels
unseen.py       videos that the model has not learned from
baselines.py    single frames, metadata and chance on the same videos
robustness.py   the same videos after a perturbation
studies.py      learning curve and ablation
sections.py     text and tables; report.py: as a page and a model card; plots.py: pictures
steps.py        nodes of the DAG
"""

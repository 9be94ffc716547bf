"""Logits -> scores, verdicts and figures.

aggregation.py       logits of sequences -> one of the video
calibration.py       temperature, threshold and inconclusive band, from validation videos
verdict.py           logit -> score -> verdict
metrics.py           figures of a score table, with intervals
weighted_metrics.py  figures of weighted videos, for the bootstrap
evaluation.py        every reported figure
"""

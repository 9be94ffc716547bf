"""Whether a challenger may replace the champion, and how new videos differ.

retraining.py    decides whether there is enough new data, measures models to compare
gate.py          the rules of a promotion
footprint.py     cost of a model, and whether its export gives the same logits
promote.py       writes the decision, moves the champion pointer
versions.py      versions for people: list, show, compare
drift.py         how new videos differ; drift_plot.py: picture; drift_report.py: files, Markdown
steps.py         nodes of the DAG
"""

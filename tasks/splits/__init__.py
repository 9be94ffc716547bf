"""Which video is in which split, and whether the splits are clean.

labelled.py         files of a store with the columns that a split needs
ties.py             what connects videos: people, sources, pairs, contents, looks
near_duplicates.py  videos that look alike
confirm.py          ... a second look at faces that are perhaps the same
split.py            connected components -> train, val, test
dealing.py          how components are dealt to splits
stored.py           the settings that a store was divided with
audit.py            leaks between splits, balance, shortcuts
shortcuts.py        how well metadata alone tells the label
audit_plot.py       ... drawn
steps.py            nodes of the DAG
"""

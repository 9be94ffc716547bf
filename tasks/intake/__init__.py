"""Sources that a user names -> identified, labelled files, in shards.

discover.py         files of a folder or an object store, named by their contents
contents.py         contents of files, read side by side within limits
inputs.py           folders, files, patterns and lists of a scoring run
labels.py           labels table, or names of folders
dataset_layouts.py  labels from the folders of public data sets
shards.py           contents that are still to be processed, in groups
steps.py            nodes of the DAG
"""

"""Whether everything that was written is still as it was written.

verify.py    a folder of any kind -> the files that are not
store.py     what can be checked in a store
results.py   what can be checked in a model, an evaluation, a registry and a scoring output
checks.py    a check: a file, and a function that raises if it is not as it was written
"""

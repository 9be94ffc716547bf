"""Shared kernel, which imports no other folder of the project.

config.py         settings of preprocessing, of a run, of a split, of scoring and of the gate
train_config.py   settings of the detector and of its training; recipes holds named sets of them
page_config.py    settings of the web page
settings.py       how settings are read, checked and hashed
weights           published weights: the catalogue, the formats
card.py           the model card
records.py        frozen records that stages pass on
status.py         statuses of an input file
identifiers.py    names that are hashes
errors.py         every exception that a user can cause
locations.py      a path or a URL; the videos that the label ``source`` names
reading.py        reading of input files: limits, and proof of the content
perturbations.py  changes of a video before detection
progress.py       the progress bar
visible.py        text of others, harmless where people see it
processes.py      cores, CPU time, child processes that end with their parent
serving           who may ask a web server: hosts, origins, the password
"""

"""What an operator runs: one Prefect flow per file, and the command line over them.

preprocess.py    folder of videos -> face crop sequences, a table of files and a manifest
split.py         labelled store -> train, val and test
audit.py         labelled store -> leaks, and what gives the labels away
train.py         labelled store -> checkpoint
studies.py       checkpoints with more videos, and with each switch of training
evaluate.py      checkpoint and labelled store -> figures
score.py         files and a checkpoint -> result table
retrain.py       new labelled videos -> challenger, which the gate may put into use
approval.py      ask a person
spread.py        one task per shard, here or on a cluster
demo.py          all of it, on rendered faces or own videos
serve.py         a Prefect server and a worker on this machine
deployments.py   what is registered with a Prefect server
prefect_server   Prefect's servers, which strangers cannot command
cli              the commands
"""

"""Files and a checkpoint -> result table, evidence, report.

score.py      a whole run
shard.py      one shard, here or on another machine
predict.py    one video: tracks, segments, frames; ``models/metrics/verdict.py`` gives the verdict
answers.py    the prediction for one content as a file; a damaged one is made again
evidence.py   picture of the frames that look most fake
report.py     ``report.html``
words.py      statuses, flags, verdicts and models in words
steps.py      nodes of the DAG
"""

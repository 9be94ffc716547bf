"""Steps of the pipeline, in rooms; each room imports only rooms that stand below it here.

verification    whether everything that was written is still as it was written
registry        whether a challenger may replace the champion, and how new videos differ
evaluation      a model on videos that it has never seen: figures, report, studies
scoring         files and a checkpoint -> result table, evidence, report
training        manifest and split -> checkpoint, calibrated by ``models/metrics/calibration.py``
preprocessing   shards of videos -> crops and tables; a look at a store
checkpoints     weights in and out: import, export, upload, load
splits          which video is on which side, and whether the sides are clean
intake          what a user names -> identified, labelled files in shards
faces           one video -> crop sequences; alone imports decord and MediaPipe
plotting        what pictures and tables have in common
synthetic       rendered faces for the demo and the tests

``steps.py`` of each room holds its nodes of the DAG: plain functions wrapped as Prefect tasks.
"""

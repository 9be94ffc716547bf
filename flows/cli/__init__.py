"""The command line: one command per flow, errors in one line, exit codes for scripts.

main.py      runs a command, turns errors into lines and exit codes
app.py       the command groups
data.py      preprocess, normalise, inspect, split, audit
training.py  recipes, train, evaluate, export
weights.py   weights
scoring.py   score, demo
versions.py  retrain, models
operating.py serve, deploy, verify
web_page.py  page
options.py   options that commands share
checks.py    refusals before anything heavy is imported
printing.py  tables and lines for the terminal

- Heavy libraries are imported inside the commands, so that ``--help`` is instant and decode
  processes, which import the main module again, stay small.
- The flows run in this process; with ``PREFECT_API_URL`` set they show on that server.

Exit codes: 0 done; 1 unexpected; 2 wrong setting, source or store; 3 model and data do not belong
together; 4 weights cannot be had; 5 a retraining that somebody must look at; 130 interrupted.
"""

from flows.cli.main import main

__all__ = ["main"]

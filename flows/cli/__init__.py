"""The command line: one command per flow, errors in one line, exit codes for scripts.

- Heavy libraries are imported inside the commands, so that ``--help`` is instant and decode
  processes, which import the main module again, stay small.
- The flows run in this process; with ``PREFECT_API_URL`` set they show on that server.

Exit codes: 0 done; 1 unexpected; 2 wrong setting, source or store; 3 model and data do not belong
together; 4 weights cannot be had; 5 a retraining that somebody must look at; 130 interrupted.
"""

from flows.cli.main import main

__all__ = ["main"]

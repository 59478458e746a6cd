"""Many trainings, compared in accuracy and cost.

`records.py` has the result; `run.py` is the run.
"""

"""Images of the user's own, as a model takes them in an evaluation or in a training.

`folder.py` lists them, `preprocessing.py` says how a model wants them, `reading.py` reads them. For
a training, `loading.py` finds, checks and divides them, and `batches.py` makes batches of them.
"""

"""Images of the user's own, as a model takes them in an evaluation.

`folder.py` lists them, `preprocessing.py` says how a model wants them, `reading.py` reads them.
"""

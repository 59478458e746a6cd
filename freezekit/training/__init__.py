"""Training on the user's own images: a plain loop, which `freezekit.train` and each trial run.

`records.py` has the words; `loop.py` is the loop.
"""

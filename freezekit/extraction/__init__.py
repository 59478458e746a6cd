"""The features of images at a boundary of a model, written to files for use elsewhere.

`finding.py` finds the boundary, `run.py` computes, `files.py` writes and goes on.
"""

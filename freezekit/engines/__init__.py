"""Where tasks run: in processes of this machine, on Ray, or on Slurm.

`records.py` has the interface that all engines share.
"""

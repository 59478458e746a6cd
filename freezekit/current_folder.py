"""What `python -m freezekit` does first: it takes the current folder from the import path.

Python puts it first there. A "packaging.py" in a folder of downloaded results would run. Nothing
else than Python's own modules is imported before this module.
"""

import re
import sys

_MODULE = re.compile(r"-[bBdEiIOPqsSuvVx]*m(.*)")  # "-m", also after other options: "-um"


def _is_run() -> bool:
    """Tell whether Python is looking for a module of freezekit that it shall run."""
    if sys.argv[:1] != ["-m"] or sys.flags.safe_path:
        return False
    given = iter(sys.orig_argv[1:])
    found = next(filter(None, map(_MODULE.fullmatch, given)), None)
    module: str = (found[1] or next(given, "")) if found else ""
    return module.partition(".")[0] == "freezekit"


if _is_run():
    del sys.path[0]

"""Compilations within the forward of a lean model, such as of one of its modules.

Such a graph has no marker: the model itself is not compiled. So a lean forward asks Dynamo to tell
of each compilation, where it is imported; `torch._dynamo.reset()` makes it forget. Here is nothing
that imports Dynamo or Inductor.
"""

from __future__ import annotations

import sys


def watch_compilations() -> None:
    """Have the pass installed when something is compiled within a lean forward."""
    dynamo = sys.modules.get("torch._dynamo")
    handler = getattr(dynamo, "callback_handler", None)
    if handler is not None and _begin not in handler.start_callbacks:
        handler.register_start_callback(_begin)


def _begin(_: object) -> None:
    from freezekit.lean.compiled.installation import install, is_compiling_lean

    if is_compiling_lean():
        install()

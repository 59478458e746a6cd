"""Compilations within the forward of a lean model, such as of one of its modules.

Such a graph has no marker: the model itself is not compiled. So the first lean forward after Dynamo
was imported asks it to tell of each compilation. Here is nothing that imports Dynamo or Inductor.
"""

from __future__ import annotations

import sys

_asked: list[bool] = []


def watch_compilations() -> None:
    """Have the pass installed when something is compiled within a lean forward."""
    if _asked or "torch._dynamo" not in sys.modules:
        return
    from torch._dynamo.callback import callback_handler

    _asked.append(True)
    callback_handler.register_start_callback(_begin)


def _begin(_: object) -> None:
    from freezekit.lean.compiled.installation import install, is_compiling_lean

    if is_compiling_lean():
        install()

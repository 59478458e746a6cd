"""Where Inductor finds the pass: in its configuration, beside a pass that somebody put there."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from packaging.version import Version

from freezekit.lean.compiled.graph_pass import make_lean
from freezekit.lean.compiled.marker import remove_markers
from freezekit.lean.native.core import TESTED

if TYPE_CHECKING:
    from types import FrameType

    from torch.fx import Graph

CALLERS = str(Path(__file__).parents[1] / "attachment.py")
"""The file of the forward of lean models, which is on the stack while a part of it is compiled."""

_TRACED = "_freezekit_is_lean"
"""The attribute of torch's record of a compilation in which a marker was traced."""


def install() -> None:
    """Put the pass into the configuration of Inductor, before one that is there.

    It is called while the forward of a lean model is traced, or runs and calls what is compiled.
    Inductor takes seconds to import, and only those who compile need it.
    """
    context = torch._guards.TracingContext.try_get()
    if context is not None:
        setattr(context, _TRACED, True)
    is_tested = TESTED[0] <= Version(Version(torch.__version__).base_version) < TESTED[1]
    if "torch._inductor" not in sys.modules or not is_tested:
        return  # the marker stays, and warns
    from torch._inductor import config

    kind = _pass_class()
    there = config.joint_custom_pre_pass
    if not isinstance(there, kind):
        config.joint_custom_pre_pass = kind(there)


def is_compiling_lean() -> bool:
    """Tell whether the graph that is compiled now is of a lean model, or of a part of one.

    A whole model is traced, with its marker. After a graph break, and where only a part is
    compiled, the forward of the model runs, and calls what is compiled.
    """
    context = torch._guards.TracingContext.try_get()
    if getattr(context, _TRACED, False):
        return True
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == CALLERS:
            return True
        frame = frame.f_back
    return False


@cache
def _pass_class() -> Any:  # Any: a class that needs a class of Inductor's
    from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

    import freezekit.lean.compiled.lowering  # noqa: F401  # tells Inductor what the pass inserts

    sources = tuple(str(path) for path in sorted(Path(__file__).parent.glob("*.py")))
    code = get_hash_for_files(sources)

    class LeanPass(CustomGraphPass):
        """Makes graphs of lean models lean, then runs the passes that were there before."""

        def __init__(self, others: Any) -> None:  # Any: a pass, several, or None
            several = isinstance(others, (list, tuple))
            self.others = () if others is None else tuple(others) if several else (others,)

        def __call__(self, graph: Graph) -> None:
            if remove_markers(graph) or is_compiling_lean():
                make_lean(graph)
            for other in self.others:
                other(graph)

        def uuid(self) -> Any:
            """Return the key of caches: a lean graph and a stock one may look alike to them."""
            keys = [getattr(other, "uuid", lambda: None)() for other in self.others]
            return None if None in keys else repr((code, is_compiling_lean(), keys))

    return LeanPass

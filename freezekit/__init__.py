"""Freeze parts of a vision backbone properly, and measure what it saves.

Importing this module loads no plugin and no torch; what needs torch is imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from freezekit.backbone.records import Norm, ParameterInfo, Stage
from freezekit.errors import (
    FreezeError,
    FreezekitError,
    FreezekitWarning,
    ModelError,
    OutputError,
    PlanError,
    PluginError,
    SpecError,
    StagingError,
    UnknownStrategyError,
    WorkerError,
)
from freezekit.hookspecs import hookimpl
from freezekit.strategy import FreezePlan, Strategy

if TYPE_CHECKING:
    from freezekit.backbone.loading import load_backbone
    from freezekit.backbone.view import Backbone
    from freezekit.freeze import Frozen, freeze_
    from freezekit.planning import plan
    from freezekit.verify import Check, Verification, verify_model

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "Check",
    "FreezeError",
    "FreezePlan",
    "FreezekitError",
    "FreezekitWarning",
    "Frozen",
    "ModelError",
    "Norm",
    "OutputError",
    "ParameterInfo",
    "PlanError",
    "PluginError",
    "SpecError",
    "Stage",
    "StagingError",
    "Strategy",
    "UnknownStrategyError",
    "Verification",
    "WorkerError",
    "freeze_",
    "hookimpl",
    "load_backbone",
    "plan",
    "verify_model",
]

_NEEDS_TORCH = {
    "Backbone": "freezekit.backbone.view",
    "Check": "freezekit.verify",
    "Frozen": "freezekit.freeze",
    "Verification": "freezekit.verify",
    "freeze_": "freezekit.freeze",
    "load_backbone": "freezekit.backbone.loading",
    "plan": "freezekit.planning",
    "verify_model": "freezekit.verify",
}


def __getattr__(name: str) -> object:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_NEEDS_TORCH[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

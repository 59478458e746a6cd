"""Freeze parts of a vision backbone properly, and measure what it saves.

The public names of this package and of `freezekit.testing` are the promised interface. The modules
inside may move, and their names may change.

Importing this module loads no plugin and no torch. A name that needs them is imported at its first
use.

Example:
    >>> import freezekit
    >>> model = freezekit.load_backbone("torchvision:resnet18", device="meta")
    >>> freezekit.freeze_(model, "head-only")
    Frozen(ResNet: 60 of 62 parameters frozen, 65 modules held in eval)
"""

from __future__ import annotations

import freezekit.current_folder  # noqa: F401  # before all others: they may be found there

# isort: split
from importlib import import_module
from typing import TYPE_CHECKING

from freezekit.errors import (
    CacheError,
    CompilationError,
    DataError,
    FreezeError,
    FreezekitError,
    FreezekitWarning,
    ModelError,
    OutputError,
    PlanError,
    PluginError,
    ScheduleError,
    SpecError,
    StagingError,
    TrainingError,
    UnknownScheduleError,
    UnknownStrategyError,
    WorkerError,
)
from freezekit.freezing.plan import FreezePlan
from freezekit.model.records import Norm, ParameterInfo, Stage
from freezekit.plugins.hookspecs import hookimpl
from freezekit.plugins.metric import Metric
from freezekit.spec.progress import Observed, Progress
from freezekit.spec.schedule import Decision, Schedule
from freezekit.spec.strategy import Strategy
from freezekit.spec.training_time import TrainingTime

if TYPE_CHECKING:
    from freezekit.backbone.view import Backbone
    from freezekit.freezing.planning import plan
    from freezekit.handle.freeze import freeze_
    from freezekit.handle.frozen import Frozen
    from freezekit.model.loading import load_backbone
    from freezekit.plugins.registering import load_registry
    from freezekit.plugins.registry import Registry
    from freezekit.training.loop import Trained, train
    from freezekit.training.records import Epoch, Recipe, Trial
    from freezekit.verify import Check, Verification, verify_model

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "CacheError",
    "Check",
    "CompilationError",
    "DataError",
    "Decision",
    "Epoch",
    "FreezeError",
    "FreezePlan",
    "FreezekitError",
    "FreezekitWarning",
    "Frozen",
    "Metric",
    "ModelError",
    "Norm",
    "Observed",
    "OutputError",
    "ParameterInfo",
    "PlanError",
    "PluginError",
    "Progress",
    "Recipe",
    "Registry",
    "Schedule",
    "ScheduleError",
    "SpecError",
    "Stage",
    "StagingError",
    "Strategy",
    "Trained",
    "TrainingError",
    "TrainingTime",
    "Trial",
    "UnknownScheduleError",
    "UnknownStrategyError",
    "Verification",
    "WorkerError",
    "freeze_",
    "hookimpl",
    "load_backbone",
    "load_registry",
    "plan",
    "train",
    "verify_model",
]

_LAZY = {
    "Backbone": "freezekit.backbone.view",
    "Check": "freezekit.verify",
    "Epoch": "freezekit.training.records",
    "Frozen": "freezekit.handle.frozen",
    "Recipe": "freezekit.training.records",
    "Registry": "freezekit.plugins.registry",
    "Trained": "freezekit.training.loop",
    "Trial": "freezekit.training.records",
    "Verification": "freezekit.verify",
    "freeze_": "freezekit.handle.freeze",
    "load_backbone": "freezekit.model.loading",
    "load_registry": "freezekit.plugins.registering",
    "plan": "freezekit.freezing.planning",
    "train": "freezekit.training.loop",
    "verify_model": "freezekit.verify",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

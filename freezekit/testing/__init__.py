"""Tests for authors of plugins: contracts for strategies and schedules, and small models.

Example:
    >>> from freezekit.testing import MODELS, ScheduleContract, StrategyContract
    >>> class TestMyStrategy(StrategyContract):
    ...     specs = ("batch-norm", "batch-norm:train=only")
    >>> class TestMySchedule(ScheduleContract):
    ...     schedules = ("lp-ft", "lp-ft:probe=6step")
    >>> list(MODELS)
    ['residual', 'transformer', 'fused', 'tied', 'sliced']
"""

from freezekit.testing.contract import StrategyContract
from freezekit.testing.models import MODELS
from freezekit.testing.schedule_contract import ScheduleContract

__all__ = ["MODELS", "ScheduleContract", "StrategyContract"]

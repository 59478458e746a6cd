"""Tests for authors of strategies: a contract for every strategy, and small models.

Example:
    >>> from freezekit.testing import MODELS, StrategyContract
    >>> class TestMyStrategy(StrategyContract):
    ...     specs = ("batch-norm", "batch-norm:train=only")
    >>> list(MODELS)
    ['residual', 'transformer', 'fused', 'tied', 'sliced']
"""

from freezekit.testing.contract import StrategyContract
from freezekit.testing.models import MODELS

__all__ = ["MODELS", "StrategyContract"]

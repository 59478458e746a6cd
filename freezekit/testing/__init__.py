"""For those who write strategies: a contract to be tested against, and small models."""

from freezekit.testing.contract import StrategyContract
from freezekit.testing.models import MODELS

__all__ = ["MODELS", "StrategyContract"]

"""Trainers that people use: a module for each, which needs the package of that trainer.

Nothing else in freezekit imports these modules.
"""

from freezekit.integrations.cached_loader import CacheOptions

__all__ = ["CacheOptions"]

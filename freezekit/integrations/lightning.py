"""`FreezeCallback` for `lightning.pytorch`; the one for `pytorch_lightning` has its own module."""

from __future__ import annotations

from lightning.pytorch import Callback

from freezekit.integrations.lightning_hooks import FreezeHooks


class FreezeCallback(FreezeHooks, Callback):
    """Freezes the model of a Lightning training, and drives its schedule.

    `FreezeHooks` documents the options. docs/guides/lightning.md has a whole training.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from freezekit.integrations.lightning import FreezeCallback
        >>> callback = FreezeCallback("head-only then full at 3ep", lean=True)
        >>> callback
        FreezeCallback('head-only then full at 3ep')
        >>> trainer = Trainer(callbacks=[callback], accelerator="cpu", logger=False)
        >>> callback in trainer.callbacks
        True
    """

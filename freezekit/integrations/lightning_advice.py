"""What is told of a failure in the words of a Lightning training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.integrations.lightning_trainer import has_steps_that_change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.errors import FreezekitError

HELD_ADVICE = "give configure_optimizers self.parameters(), or callback.frozen.param_groups(lr)"


def advised(error: FreezekitError, trainer: Any) -> FreezekitError:  # Any: of either package
    """Return an error of `Frozen.follow` with the advice that fits a Trainer.

    Args:
        error: Its advice is for a loop of one's own.
        trainer: The Trainer.

    Example:
        >>> from types import SimpleNamespace
        >>> from freezekit import FreezekitError
        >>> trainer = SimpleNamespace(callbacks=[], check_val_every_n_epoch=1)
        >>> error = FreezekitError("50% needs the number of epochs: give epochs=, as in follow()")
        >>> advised(error, trainer)
        FreezekitError('50% needs the number of epochs: give the Trainer max_epochs= or max_steps=')
    """
    text = str(error)
    for begin, advice in _advice(trainer):
        what, found, _ = text.partition(begin)
        if found:
            return type(error)(f"{what}{advice}")
    return error


def _advice(trainer: Any) -> Iterator[tuple[str, str]]:  # Any: as above
    """Yield how an advice begins, and what stands in its place."""
    epochs, steps = "give the Trainer max_epochs= or max_steps=", "give a data loader with a length"
    if has_steps_that_change(trainer):
        epochs = steps = (
            "GradientAccumulationScheduler changes it from epoch to epoch. Give all times in "
            "steps, or all in whole epochs, such as 500step or 2ep; or leave it out, and give the "
            "Trainer accumulate_grad_batches="
        )
    yield "give epochs=", epochs
    yield "give steps_per_epoch=", steps
    held = "ive configure_optimizers self.parameters()"
    yield "Make it of frozen.", f"G{held}; what is frozen has no gradient, and stays"
    yield "make it of frozen.", f"g{held}"
    if trainer.check_val_every_n_epoch != 1:
        yield (
            " was reported; report it, or",
            f" was logged. Validations do not come after each epoch "
            f"(check_val_every_n_epoch={trainer.check_val_every_n_epoch}): log the metric in the "
            "training, or validate after each epoch",
        )


def about_features(error: BaseException, trainer: Any) -> None:  # Any: as above
    """Add a note to an error of the first batch of features: the model may not have got it.

    A part of the model that is called by itself, as by `forward_features`, does not know features.
    """
    is_first = trainer.fit_loop.epoch_loop.total_batch_idx <= 0
    if is_first and isinstance(error, RuntimeError):
        error.add_note(
            "freezekit: cache= replaced the images of the training by features. training_step must "
            "give them to the model alone, as in self.model(images): forward_features() and other "
            "code that takes images fail on them. Change training_step, or leave cache= out"
        )

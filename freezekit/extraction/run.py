"""Compute the features of a folder of images, and write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from freezekit.cache.untouched import in_training
from freezekit.data.reading import read_batches
from freezekit.errors import CacheError, DataError, OutputError
from freezekit.extraction.files import PATTERN, FeatureFile, FeatureFolder, Index, check_space
from freezekit.extraction.work import DTYPES
from freezekit.results.locking import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from freezekit.data.reading import Unreadable
    from freezekit.extraction.work import Work

SHOWN = 5
"""Images that a message names at most."""


def extract(
    model: nn.Module,
    work: Work,
    folder: str | Path,
    progress: Callable[[int, int], None] | None = None,
) -> Index:
    """Compute the features of images, and write them as safetensors files.

    The files `features-00000.safetensors` and so on have the tensors `features` (samples, numbers)
    and, where there are classes, `labels` (samples,) of int64. Each is written whole or not at all,
    and `index.json` is written last. So an interrupted run goes on after the last whole file, and a
    complete one is not computed again.

    Args:
        model: Runs in eval mode, and is left as it was.
        work: What is computed.
        folder: Where; a new folder, an empty one, or one with a part of these features.
        progress: Is told how many images are done, and of how many.

    Raises:
        OutputError: The folder holds something else, the disk has too little space, or a file
            cannot be written.
        DataError: Images cannot be read. Those after the first of them are read too, and counted.
        CacheError: Features are too large for `dtype`.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from freezekit.data.folder import find_images
        >>> from freezekit.data.preprocessing import preprocessing_of
        >>> from freezekit.extraction.finding import find_boundary
        >>> from freezekit.extraction.work import Work
        >>> from freezekit.testing import MODELS
        >>> model = MODELS["residual"]()
        >>> how = preprocessing_of(model, image_size=32)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("a", "b"):
        ...         (Path(root) / "photos" / name).mkdir(parents=True)
        ...         Image.new("RGB", (40, 40)).save(Path(root) / "photos" / name / "1.png")
        ...     boundary = find_boundary(model, "head-only", how.shape, pool="mean")
        ...     work = Work(find_images(Path(root) / "photos"), how, boundary)
        ...     index = extract(model, work, Path(root) / "features")
        >>> index.samples, index.numbers, index.classes, index.files
        (2, 16, ('a', 'b'), ('a/1.png', 'b/1.png'))
    """
    folder = Path(folder)
    with locked([_made_beside(folder)]):
        target = FeatureFolder(folder, work.metadata(model))
        missing = [n for n, _ in enumerate(work.places()) if not target.has(n)]
        index = target.index()
        if index is not None and not missing:
            return index
        check_space(folder, sum(len(work.places()[n]) for n in missing) * work.bytes_per_sample)
        bad: list[Unreadable] = []
        with in_training(model):  # gives modes and buffers back
            model.eval()
            for number, features, indices in _computed(
                model, work, missing, bad, progress or _unseen
            ):
                tensors = {"features": features}
                if work.images.classes:
                    tensors["labels"] = torch.tensor([work.images.labels[i] for i in indices])
                places = set(work.places()[number]) - set(indices)
                skipped = tuple(work.images.files[i] for i in sorted(places))
                target.write(number, tensors, skipped)
        if bad and work.bad_images == "error":
            raise _told(bad, len(work.images))
        index = _index(work, target)
        target.write_index(index)
    return index


def _computed(
    model: nn.Module,
    work: Work,
    files: list[int],
    bad: list[Unreadable],
    progress: Callable[[int, int], None],
) -> Iterator[tuple[int, Tensor, list[int]]]:
    """Give the number, the features and the places of the images of each file.

    Once an image cannot be read and that is an error, the others are read and not computed.
    """
    places = work.places()
    size = work.batch_size
    batches = [(n, places[n][i : i + size]) for n in files for i in range(0, len(places[n]), size)]
    total = sum(map(len, places))
    done = total - sum(len(batch) for _, batch in batches)
    rows: list[Tensor] = []
    indices: list[int] = []
    progress(done, total)
    read = read_batches(work.images, work.preprocessing, [b for _, b in batches], work.workers)
    for (number, batch), found in zip(batches, read, strict=True):
        bad += found.unreadable
        if not (bad and work.bad_images == "error"):
            if found.images is not None:
                made = work.boundary.rows(model, found.images).cpu()
                rows.append(_stored(made, work.dtype))
                indices += found.indices
            if batch[-1] == places[number][-1]:
                none = torch.empty(0, work.boundary.numbers, dtype=DTYPES[work.dtype])
                yield number, torch.cat([none, *rows]), indices
                rows, indices = [], []
        done += len(batch)
        progress(done, total)


def _stored(rows: Tensor, dtype: str) -> Tensor:
    stored = rows.to(DTYPES[dtype])
    if stored.isinf().any() and not rows.isinf().any():
        raise CacheError(
            f"features up to {rows.abs().max().item():.3g} are too large for {dtype}; take "
            "bfloat16 or float32"
        )
    return stored


def _index(work: Work, target: FeatureFolder) -> Index:
    files: list[str] = []
    all_skipped: list[str] = []
    parts = []
    for number, places in enumerate(work.places()):
        skipped = set(target.skipped(number))
        kept = [work.images.files[i] for i in places if work.images.files[i] not in skipped]
        parts.append(FeatureFile(PATTERN.format(number), len(kept)))
        files += map(_in_utf8, kept)
        all_skipped += map(_in_utf8, sorted(skipped))
    if not files:
        raise DataError(f"none of the {len(work.images)} images can be read")
    return Index(
        metadata=target.metadata,
        samples=len(files),
        numbers=work.boundary.numbers,
        dtype=work.dtype,
        tensors=work.boundary.tensors,
        classes=work.images.classes,
        feature_files=tuple(parts),
        files=tuple(files),
        skipped=tuple(all_skipped),
    )


def _in_utf8(name: str) -> str:
    """Return a name that JSON can hold; Linux allows any bytes in one."""
    return name.encode(errors="backslashreplace").decode()


def _told(bad: list[Unreadable], count: int) -> DataError:
    shown = ", ".join(map(str, bad[:SHOWN]))
    more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return DataError(
        f"{len(bad)} of {count} images cannot be read: {shown}{more}; repair or remove them, or "
        "leave them out with --bad-images skip"
    )


def _unseen(done: int, total: int) -> None:
    """Show no progress."""


def _made_beside(folder: Path) -> str:
    """Return the path whose lock holds the folder: the lock lies beside it, and not in it."""
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {str(folder)!r}: {error.strerror}") from None
    return str(folder)

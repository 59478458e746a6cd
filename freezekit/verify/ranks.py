"""The check that a model is the same on all ranks of a process group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import distributed

from freezekit.errors import some
from freezekit.schedules.reducer import wrappers_of
from freezekit.schedules.rendezvous import exchange, party_of, ranks_text
from freezekit.verify.isolation import digest
from freezekit.verify.records import Check, count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from freezekit.verify.claims import Claims

NAME = "equal-on-all-ranks"

_NAMES = ""
"""The key of the digest of all names in a model: other names are another model."""


def equal_on_all_ranks(model: nn.Module, claims: Claims) -> Check | None:
    """Compare the model of now with that of the other ranks; None if there are no others.

    Frozen parameters and the buffers of held modules must have the same bits on all ranks, and what
    is frozen and held must be the same. Trained parameters must have the same bits if the model is
    wrapped in DistributedDataParallel, as it alone keeps them equal. Ranks on which the model has
    other names, as in a pipeline, are left out unless it is wrapped. Tensors that are sharded are
    left out.

    Args:
        model: The model itself, not a copy and not the wrapper.
        claims: What is frozen.

    Raises:
        FreezeError: Some ranks did not call it in time.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return None  # before looking for a wrapper, which takes long
    wrapper = next(wrappers_of(model), None)
    party = party_of(wrapper.process_group if wrapper else None, "verify", "compares the model")
    if party is None:
        return None
    mine = _facts(model, claims, is_replicated=wrapper is not None)
    found = exchange(mine, party)
    return _compared(mine, found, party.ranks, is_replicated=wrapper is not None)


def _facts(model: nn.Module, claims: Claims, is_replicated: bool) -> dict[str, str]:
    """Return what must be the same on all ranks: by name, a kind and a digest."""
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    facts = {_NAMES: str(sorted([*parameters, *buffers]))}
    for name, parameter in parameters.items():
        if name in claims.frozen:
            facts[name] = f"frozen parameter {_hex(parameter)}"
        else:
            facts[name] = f"trained parameter {_hex(parameter) if is_replicated else ''}"
    for name, buffer in buffers.items():
        if name.rpartition(".")[0] in claims.eval_modules:
            facts[name] = f"held buffer {_hex(buffer)}"
        else:
            facts[name] = "live buffer "
    return facts


def _hex(tensor: Tensor) -> str:
    is_sharded = type(tensor).__module__.startswith("torch.distributed")
    return "" if is_sharded else digest(tensor)[0].hex()


def _compared(
    mine: Mapping[str, str],
    found: Mapping[int, Mapping[str, str]],
    ranks: Sequence[int],
    is_replicated: bool,
) -> Check:
    first = ranks[0]
    reference = found[first]
    others = {rank: facts for rank, facts in found.items() if rank != first}
    alien: list[int] = []
    if not is_replicated:
        if mine[_NAMES] != reference[_NAMES]:
            detail = f"this rank has another model than rank {first}; the two are not compared"
            return Check(NAME, True, detail)
        alien = [r for r, facts in others.items() if facts[_NAMES] != reference[_NAMES]]
        others = {rank: facts for rank, facts in others.items() if rank not in alien}
    by_text: dict[str, list[int]] = {}
    offenders: dict[str, None] = {}
    for rank, facts in others.items():
        names, text = _differences(reference, facts)
        offenders.update(dict.fromkeys(names))
        if text:
            by_text.setdefault(text, []).append(rank)
    if by_text:
        said = [f"on {ranks_text(those)}: {text}" for text, those in by_text.items()]
        return Check(NAME, False, f"unlike rank {first}, {'; '.join(said)}", tuple(offenders))
    compared = [fact for name, fact in mine.items() if name != _NAMES and fact[-1] != " "]
    alike = count(len(ranks) - len(alien), "rank")
    detail = f"{count(len(compared), 'tensor')} have the same bits on {alike}"
    if alien:
        detail += f"; another model is on {ranks_text(alien)}"
    if not is_replicated:
        detail += "; trained parameters are compared under DistributedDataParallel only"
    return Check(NAME, True, detail)


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[list[str], str]:
    """Return the names of what differs, and in words how the other differs from the one."""
    parts: dict[str, list[str]] = {}
    for name in sorted((one.keys() | other.keys()) - {_NAMES}):
        fact, its = one.get(name), other.get(name)
        if fact == its:
            continue
        if its is None:
            what = "missing"
        elif fact is None:
            what = "there only"
        elif _kind(fact) != _kind(its):
            what = f"{_kind(its)}, not {_kind(fact)}"
        else:
            what = f"another value of a {_kind(fact)}"
        parts.setdefault(what, []).append(name)
    text = ", ".join(f"{what} ({len(names)}): {some(names)}" for what, names in parts.items())
    return [name for names in parts.values() for name in names], text


def _kind(fact: str) -> str:
    return fact.rpartition(" ")[0]

"""A stratified split."""

from __future__ import annotations

from freezekit.data.splitting import stratified_split


def test_a_sample_that_is_added_moves_few_others() -> None:
    names = [f"{number}.png" for number in range(100)]
    _, held = stratified_split([0] * 100, 0.2, 0, names)
    _, more = stratified_split([0] * 101, 0.2, 0, [*names, "new.png"])
    assert len({names[i] for i in held} & {[*names, "new.png"][i] for i in more}) >= 19


def test_shares_are_those_of_the_whole() -> None:
    labels = [0] * 50 + [1] * 10 + [2] * 3
    stay, held = stratified_split(labels, 0.3, 7)
    assert sorted((*stay, *held)) == list(range(63))
    assert [[labels[i] for i in held].count(label) for label in range(3)] == [15, 3, 1]


def test_a_single_sample_stays() -> None:
    assert stratified_split([0, 1, 1], 0.5, 0)[0][0] == 0

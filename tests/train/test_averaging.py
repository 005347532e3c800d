"""The average of weights: its formula, and that it leaves the weights themselves alone until asked."""

from __future__ import annotations

import torch

from tunesmith.train.averaging import Average


def test_the_average_follows_its_formula() -> None:
    weight = torch.zeros(3)
    average = Average({"w": weight}, 0.5)
    expected = torch.zeros(3)
    for step in range(1, 30):
        weight.fill_(float(step))
        average.update(step)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * step
    torch.testing.assert_close(average.tensors["w"], expected)


def test_counts_are_copied_and_not_averaged() -> None:
    count = torch.tensor(0)
    average = Average({"n": count}, 0.9)
    count.fill_(7)
    average.update(1)
    assert average.tensors["n"].item() == 7


def test_inside_the_tensors_hold_the_average_and_afterwards_their_own_values() -> None:
    weight = torch.ones(2)
    average = Average({"w": weight}, 0.9)
    weight.fill_(5.0)
    with average.in_place():
        assert weight.tolist() == [1.0, 1.0]
    assert weight.tolist() == [5.0, 5.0]
    average.settle()
    assert weight.tolist() == [1.0, 1.0]


def test_without_decay_nothing_is_kept_or_changed() -> None:
    weight = torch.ones(2)
    average = Average({"w": weight}, 0.0)
    weight.fill_(3.0)
    average.update(1)
    with average.in_place():
        assert weight.tolist() == [3.0, 3.0]
    average.settle()
    assert average.tensors == {}
    assert weight.tolist() == [3.0, 3.0]

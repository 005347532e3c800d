"""Batches by number: every example once an epoch, like lengths together, the same again after any history."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.batches import TrainBatches, epoch_order, evaluation_order
from tunesmith.types import Batch

LENGTHS = np.random.default_rng(0).integers(3, 120, 1000)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 5), st.booleans())
def test_an_epoch_holds_every_example_once(rows: int, size: int, epoch: int, group: bool) -> None:
    order = epoch_order(LENGTHS[:rows], size, counter=(1, epoch), group_by_length=group)
    assert sorted(np.concatenate(order).tolist()) == list(range(rows))
    assert sum(len(b) != size for b in order) <= 1


def test_grouping_by_length_saves_most_of_the_padding() -> None:
    def padded(group: bool) -> int:
        return sum(
            int(LENGTHS[b].max()) * len(b) for b in epoch_order(LENGTHS, 16, counter=(0, 0), group_by_length=group)
        )

    real = int(LENGTHS.sum())
    assert padded(True) < 1.1 * real
    assert padded(False) > 1.6 * real


def test_epochs_and_seeds_differ_and_come_again() -> None:
    def order(*counter: int) -> list[int]:
        return [int(i) for b in epoch_order(LENGTHS, 16, counter=counter) for i in b]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2) != order(1, 2)


def batches(rank: int = 0, processes: int = 1, micro: int = 5) -> TrainBatches:
    def collate(indices: object, positions: object, epoch: object) -> Batch:
        return Batch({"i": indices}, None, tuple(positions))  # type: ignore[arg-type,dict-item]

    return TrainBatches(LENGTHS, collate, batch_size=16, micro_batch_size=micro, seed=3, rank=rank, processes=processes)


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    walked = batches()
    for step in range(1, 100):
        walked.indices(step)
    assert np.array_equal(walked.indices(70), batches().indices(70))


def test_processes_share_a_batch_and_keep_each_example_in_its_place() -> None:
    whole = {p: i for b in batches().micro_batches(5) for p, i in zip(b.positions, b.inputs["i"], strict=True)}
    shared = {p: i for rank in range(3) for b in batches(rank, 3).micro_batches(5)
              for p, i in zip(b.positions, b.inputs["i"], strict=True)}  # fmt: skip
    assert shared == whole
    assert sorted(whole) == list(range(16))


def test_scoring_batches_hold_all_and_bound_their_tokens() -> None:
    order = evaluation_order(LENGTHS, 512)
    assert sorted(np.concatenate(order).tolist()) == list(range(1000))
    assert all(len(b) == 1 or int(LENGTHS[b].max()) * len(b) <= 512 for b in order)

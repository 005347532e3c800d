"""Replay against one mixed batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tunesmith.errors import RecipeError
from tunesmith.retention.replay import Replay, shared_out
from tunesmith.train import randomness
from tunesmith.train.activations import checkpoint_blocks
from tunesmith.types import Anatomy

from .toy import BATCH, SEED, Net, Old, gradients, held_by, new_batch, new_loss

ANATOMY = Anatomy(("head",), ("head",), ("body.0", "body.1"), (), (), (), 4, 1)


def test_the_gradient_is_that_of_the_mixed_batch() -> None:
    net, old, step = Net(dropout=0.4).train(), Old(), 3
    new, beside = new_batch(step), old.batch(step, 4)
    gradients(net, Replay(share=0.5).penalty(held_by(net, old)), step)
    randomness.begin(SEED, step, new.positions)
    (new_loss(net, new) / BATCH).backward()  # on top of what replay left there
    ours = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    # twelve examples in one forward pass, with the masks of twelve places; the old ones leave by their own head
    randomness.begin(SEED, step, new.positions + beside.positions)
    features = net.features(torch.cat([new.inputs["x"], beside.inputs["x"]]))
    cross = torch.nn.functional.cross_entropy
    one = cross(net.head(features[:BATCH]), new.labels, reduction="sum")
    two = cross(old.head(features[BATCH:]), beside.labels, reduction="sum")
    ((one + two) / 12).backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(ours[name] / 12 * 8, parameter.grad, rtol=1e-9, atol=1e-12, msg=name)


def test_old_examples_do_not_move_the_statistics_of_norms() -> None:
    net = Net(norm=True).train()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    gradients(net, Replay().penalty(held_by(net, Old())), 1)
    assert before
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())


def test_blocks_that_forget_their_activations_give_the_same_gradient() -> None:
    net = Net(norm=True, dropout=0.4).train()
    penalty = Replay(share=1.0).penalty(held_by(net, Old()))
    _, kept = gradients(net, penalty, 2)
    checkpoint_blocks(net, ANATOMY)
    _, again = gradients(net, penalty, 2)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_dropout_follows_from_the_step() -> None:
    net = Net(dropout=0.5).train()
    penalty = Replay().penalty(held_by(net, Old()))
    one, two, other = (gradients(net, penalty, step) for step in (4, 4, 5))
    assert one[0] == two[0] != other[0]


def test_several_old_tasks_share_the_examples_and_take_turns() -> None:
    assert shared_out(7, 3, 0) == [3, 2, 2]
    assert [sum(column) for column in zip(*(shared_out(7, 3, step) for step in range(3)), strict=True)] == [7, 7, 7]
    assert [shared_out(1, 2, step) for step in (1, 2)] == [[0, 1], [1, 0]]
    assert all(sum(shared_out(5, 4, step)) == 5 for step in range(9))


def test_tasks_without_labels_are_passed_over_and_alone_refused() -> None:
    net, old = Net(), Old()
    value, _ = gradients(net, Replay().penalty(held_by(net, old)), 1)
    beside, _ = gradients(net, Replay().penalty(held_by(net, Old("no labels", "features"), old)), 1)
    assert value == beside
    with pytest.raises(RecipeError, match="name an earlier run"):
        Replay().penalty(held_by(net, Old(says="features")))


@pytest.mark.parametrize("share", [0, -0.1, 5])
def test_a_share_out_of_bounds_is_refused(share: float) -> None:
    options: dict[str, Any] = {"share": share}
    with pytest.raises(ValidationError):
        Replay(**options)

"""Distillation against a reference with a second network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tunesmith.errors import RecipeError
from tunesmith.retention.lwf import LwF

from .toy import Net, Old, gradients, held_by, move, new_batch


def by_hand(net: Net, teacher: Net, task: Old, x: Tensor, temperature: float) -> Tensor:
    """T^2 times the divergence of softened answers, its gradient through the net alone; features by their distance."""
    net.eval(), teacher.eval()
    now, before = net.features(x), teacher.features(x).detach()
    if not task.labelled:
        return ((now - before) ** 2).sum() / (before**2).sum()
    p, q = (torch.softmax(task.head(f) / temperature, 1) for f in (before, now))
    return temperature**2 * (p * (p.log() - q.log())).sum() / len(x)


@pytest.mark.parametrize("inputs", ["new", "old"])
@pytest.mark.parametrize("says", [("classes",), ("features",), ("classes", "features")])
def test_value_and_gradient_are_those_of_the_paper(inputs: Any, says: tuple[str, ...]) -> None:
    net = Net(norm=True, dropout=0.4)
    teacher, old = copy.deepcopy(net), [Old(f"old {kind}", kind) for kind in says]
    penalty = LwF(weight=1.5, temperature=3.0, inputs=inputs, share=0.5).penalty(held_by(net, *old))
    move(net)
    net.features(torch.randn(30, 4, dtype=torch.float64))  # its statistics move, the teacher's do not
    value, found = gradients(net, penalty, 7)
    net.zero_grad()
    batches = [new_batch(7, 4) if inputs == "new" else task.batch(7, 4) for task in old]
    pairs = zip(old, batches, strict=True)
    wanted = sum(1.5 * by_hand(net, teacher, task, batch.inputs["x"], 3.0) for task, batch in pairs) / len(old)
    wanted.backward()
    assert value == pytest.approx(wanted.item(), rel=1e-9)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, net.get_parameter(name).grad, rtol=1e-9, atol=1e-12, msg=name)
    assert all(name in found for name, _ in net.body.named_parameters(prefix="body"))


def test_before_the_first_update_nothing_pulls() -> None:
    net = Net(dropout=0.5)
    net.train()
    value, found = gradients(net, LwF().penalty(held_by(net, Old())), 1)
    assert value == pytest.approx(0, abs=1e-12)
    assert all(gradient.abs().max() < 1e-12 for gradient in found.values())


def test_without_an_old_task_it_says_what_to_name() -> None:
    with pytest.raises(RecipeError, match="add auto, or an earlier run"):
        LwF().penalty(held_by(Net()))


@pytest.mark.parametrize("option", [{"weight": 0}, {"temperature": 0}, {"inputs": "both"}, {"share": 0}])
def test_bad_options_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LwF(**option)

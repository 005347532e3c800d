"""The pull towards the start against its closed form."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from tunesmith.retention.l2_sp import L2SP

from .toy import Net, gradients, held_by, move


def test_value_and_gradient_are_those_of_the_paper() -> None:
    net = Net(norm=True)
    held = held_by(net)
    penalty = L2SP(strength=0.3).penalty(held)
    move(net)
    net.features(torch.randn(8, 4, dtype=torch.float64))  # moves the statistics, which no weight is
    value, found = gradients(net, penalty, 1)
    weights = {n: p.detach() for n, p in net.named_parameters() if not n.startswith("head.")}
    assert found.keys() == weights.keys()
    assert value == pytest.approx(sum(0.15 * (w - held.start[n]).square().sum().item() for n, w in weights.items()))
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], 0.3 * (weight - held.start[name]), rtol=1e-12, atol=0)


def test_it_is_added_to_the_gradients_that_stand() -> None:
    net = Net()
    penalty = L2SP(strength=2.0).penalty(held_by(net))
    move(net)
    _, alone = gradients(net, penalty, 1)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    for part in penalty(net, 1):
        (part * 4).backward()
    for name, gradient in alone.items():
        torch.testing.assert_close(net.get_parameter(name).grad, 1 + 4 * gradient)


def test_at_the_start_there_is_no_pull() -> None:
    net = Net()
    value, found = gradients(net, L2SP().penalty(held_by(net)), 1)
    assert value == 0
    assert all((gradient == 0).all() for gradient in found.values())


@pytest.mark.parametrize("strength", [0, -1, float("nan"), 1e7])
def test_a_strength_that_pulls_nowhere_is_refused(strength: float) -> None:
    with pytest.raises(ValidationError):
        L2SP(strength=strength)

"""What every retention promises: a new file in `retention/` is tested here as soon as it exists."""

from __future__ import annotations

import math

import pytest
import torch

from tunesmith.retention.base import Held, Penalty, Retention, registry
from tunesmith.train import randomness

from ..retention.toy import Net, Old, gradients, held_by, move

PENALTIES = [name for name in registry.names() if registry.get(name).penalty is not Retention.penalty]
penalties = pytest.mark.parametrize("name", PENALTIES)
FEWER = {"ewc": {"examples": 5}}
"""Options with which a test takes no longer than it must."""
AT_END = [name for name in registry.names() if registry.get(name).at_end]


def start(name: str) -> tuple[Net, Held, Penalty]:
    """A net with dropout and moving norms, tuned some way since its penalty was made."""
    net = Net(norm=True, dropout=0.3)
    held = held_by(net, Old("one"), Old("two", "labels"), Old("three", "features"))
    penalty = registry.get(name)(**FEWER.get(name, {})).penalty(held)
    assert penalty is not None
    move(net)
    return net, held, penalty


@pytest.mark.parametrize("name", registry.names())
def test_it_does_something_either_while_training_or_at_the_end(name: str) -> None:
    kind = registry.get(name)
    assert (name in PENALTIES) != kind.at_end
    assert kind.at_end == (kind.finish is not Retention.finish)


@penalties
def test_it_is_finite_and_pulls_what_learns_but_never_the_head(name: str) -> None:
    net, held, penalty = start(name)
    value, found = gradients(net, penalty, 1)
    assert math.isfinite(value)
    assert value > 0
    assert all(gradient.isfinite().all() for gradient in found.values())
    pulled = {each for each, gradient in found.items() if gradient.abs().max() > 0}
    assert pulled
    assert pulled <= held.learned.keys()
    heads = [parameter for task in held.old for parameter in task.head.parameters()]  # type: ignore[attr-defined]
    assert all(parameter.grad is None for parameter in heads)


@penalties
def test_a_step_gives_the_same_numbers_whatever_came_before_it(name: str) -> None:
    net, _, penalty = start(name)
    for step in (1, 2):
        gradients(net, penalty, step)
    value, found = gradients(net, penalty, 3)
    resumed, _, again = start(name)  # made anew at the start's values, asked at once for step 3
    other, same = gradients(resumed, again, 3)
    assert value == other
    assert all(torch.equal(found[each], same[each]) for each in found)


@penalties
def test_nothing_of_it_stays_in_the_model_or_in_the_draws(name: str) -> None:
    net, held, _ = start(name)
    net.body[1].eval()  # a method may leave some parts so
    state = {each: tensor.clone() for each, tensor in net.state_dict().items()}
    modes, tensors = [m.training for m in net.modules()], {n: id(p) for n, p in net.named_parameters()}
    randomness.begin(1, 2, (3, 4))
    clock, generator = randomness.now(), torch.get_rng_state()
    penalty = registry.get(name)(**FEWER.get(name, {})).penalty(held)
    assert penalty is not None
    gradients(net, penalty, 1)
    assert all(torch.equal(tensor, state[each]) for each, tensor in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert {n: id(p) for n, p in net.named_parameters()} == tensors
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert randomness.now() == clock
    assert torch.equal(torch.get_rng_state(), generator)


@penalties
def test_while_only_the_head_learns_there_is_nothing_to_differentiate(name: str) -> None:
    net, _, penalty = start(name)
    net.body.requires_grad_(False)
    assert gradients(net, penalty, 1) == (0.0, {})


@pytest.mark.parametrize("name", AT_END)
def test_at_the_end_the_model_is_left_at_the_point_that_is_told(name: str) -> None:
    class Line:
        better = "higher"
        at = -1.0

        def put(self, share: float) -> None:
            assert 0 <= share <= 1
            self.at = share

        def new_score(self) -> float:
            return 0.9 - 0.1 * (1 - self.at) ** 2

        def old_forgetting(self) -> dict[str, float]:
            return {"old": 0.2 * self.at**2}

    line = Line()
    assert registry.get(name)().finish(line)["share"] == line.at

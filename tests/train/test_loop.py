"""The loop against a plain one written out here, and its groups, rates and events."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from tunesmith.events import Evaluated, Step
from tunesmith.train.device import Device
from tunesmith.train.loop import Plan, Progress, train
from tunesmith.train.optimizer import Rates, make_optimizer, optimizer_state, restore_optimizer
from tunesmith.train.schedule import rate_factor
from tunesmith.types import Anatomy, Batch, Loss, MainScore

ANATOMY = Anatomy(("head",), ("head",), ("body.0", "body.1"), (), (), ("embed",), 4, 1)
MAIN = MainScore("accuracy", "higher")


class Learner:
    """A method that does nothing of its own."""

    def training_mode(self, model: nn.Module) -> None:
        model.train()

    def after_backward(self, model: nn.Module, step: int, steps: int) -> None: ...

    def after_step(self, model: nn.Module, step: int, steps: int) -> None: ...


class Data:
    """Four fixed batches of unequal sizes, cut as asked."""

    steps_per_epoch = 4

    def __init__(self, cut: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.batches = [
            (torch.randn(n, 4, generator=draw), torch.randint(3, (n,), generator=draw)) for n in (8, 5, 7, 3)
        ]
        self.cut = cut

    def micro_batches(self, step: int) -> Sequence[Batch]:
        x, y = self.batches[(step - 1) % 4]
        return [Batch({"x": x[i : i + self.cut]}, y[i : i + self.cut], tuple(range(i, min(i + self.cut, len(x)))))
                for i in range(0, len(x), self.cut)]  # fmt: skip


class Net(nn.Module):
    """Two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.body:
            x = torch.tanh(layer(x))
        out: Tensor = self.head(x)
        return out


def loss(model: nn.Module, batch: Batch) -> Loss:
    assert batch.labels is not None
    total = nn.functional.cross_entropy(model(batch.inputs["x"]), batch.labels, reduction="sum")
    return Loss(total, float(len(batch)))


def plan(steps: int = 8, **changes: object) -> Plan:
    values = {"steps": steps, "seed": 0, "schedule": "linear", "warmup": 0.25, "max_gradient_norm": 0.1,
              "evaluate_every": 3, "main_score": MAIN, "learning_rate": 1e-3, **changes}  # fmt: skip
    return Plan(**values)  # type: ignore[arg-type]


def run(cut: int, **changes: object) -> tuple[Net, list[Step]]:
    net = Net()
    optimizer = make_optimizer(dict(net.named_parameters()), ANATOMY, Rates(1e-2, 2e-2, 0.1, 1.0))
    events = train(net, Data(cut), loss=loss, learner=Learner(), optimizer=optimizer, plan=plan(**changes),
                   progress=Progress(), device=Device())  # fmt: skip
    return net, [event for event in events if isinstance(event, Step)]


def test_the_loop_does_what_a_plain_loop_does() -> None:
    net = Net()
    head = list(net.head.parameters())
    body = list(net.body.parameters())
    split = [([p for p in body if p.dim() > 1], 1e-2, 0.1), ([p for p in body if p.dim() == 1], 1e-2, 0.0),
             ([p for p in head if p.dim() > 1], 2e-2, 0.1), ([p for p in head if p.dim() == 1], 2e-2, 0.0)]  # fmt: skip
    optimizer = torch.optim.AdamW([{"params": p, "lr": r, "weight_decay": d} for p, r, d in split])
    data, losses = Data(100), []
    for step in range(1, 9):
        x, y = data.batches[(step - 1) % 4]
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(net(x), y)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        for group, (_, rate, _) in zip(optimizer.param_groups, split, strict=True):
            group["lr"] = rate * rate_factor(step, 8, schedule="linear", warmup=0.25)
        optimizer.step()
        losses.append(value.item())
    ours, steps = run(100)
    assert [s.loss for s in steps] == pytest.approx(losses, rel=1e-5)
    for (name, one), two in zip(net.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_micro_batches_of_any_size_give_the_same_run(cut: int) -> None:
    (one, whole), (two, parts) = run(100), run(cut)
    assert [s.loss for s in parts] == pytest.approx([s.loss for s in whole], rel=1e-5)
    assert [s.gradient_norm for s in parts] == pytest.approx([s.gradient_norm for s in whole], rel=1e-4)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def held_back(net: nn.Module, step: int) -> Iterator[Tensor]:
    """A penalty of two parts, one of them with the step in it."""
    assert isinstance(net, Net)
    yield 0.3 * net.head.weight.square().sum()
    yield 0.1 * step * net.body[0].weight.square().sum()  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("cut", [100, 2])
def test_a_penalty_is_added_to_the_mean_loss(cut: int) -> None:
    steps = itertools.count(1)

    def whole(model: nn.Module, batch: Batch) -> Loss:
        part = loss(model, batch)
        return Loss(part.total + len(batch) * torch.stack(list(held_back(model, next(steps)))).sum(), part.count)

    one, two, found = Net(), Net(), []
    ways = ((one, {"loss": whole}, Data(100)), (two, {"loss": loss, "penalty": held_back}, Data(cut)))
    for net, way, batches in ways:
        optimizer = make_optimizer(dict(net.named_parameters()), ANATOMY, Rates(1e-2, 2e-2, 0.1, 1.0))
        events = train(net, batches, learner=Learner(), optimizer=optimizer, plan=plan(), progress=Progress(),
                       device=Device(), **way)  # type: ignore[arg-type]  # fmt: skip
        found.append([event.loss for event in events if isinstance(event, Step)])
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)


def test_a_part_of_a_penalty_is_made_once_the_last_is_differentiated() -> None:
    seen: list[float] = []

    def penalty(net: nn.Module, step: int) -> Iterator[Tensor]:
        assert isinstance(net, Net)
        for _ in range(3):
            assert net.head.bias.grad is not None
            seen.append(net.head.bias.grad[0].item())
            yield net.head.bias.sum()

    net = Net()
    optimizer = make_optimizer(dict(net.named_parameters()), ANATOMY, Rates(1e-2, 2e-2, 0.1, 1.0))
    events = train(net, Data(100), loss=loss, learner=Learner(), optimizer=optimizer, plan=plan(1), progress=Progress(),
                   device=Device(), penalty=penalty)  # fmt: skip
    assert len(list(events)) == 1
    # the batch has eight examples, and the sum of their losses is what is differentiated
    assert [b - a for a, b in itertools.pairwise(seen)] == pytest.approx([8, 8])


class Both(Device):
    """A process beside one that has the same examples; a sum over both is twice what this one has."""

    processes = 2  # type: ignore[assignment]

    def sum_over_processes(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.mul_(2)


def test_processes_add_their_losses_and_share_their_penalty() -> None:
    found = []
    for device in (Device(), Both()):
        net = Net()
        optimizer = make_optimizer(dict(net.named_parameters()), ANATOMY, Rates(1e-2, 2e-2, 0.1, 1.0))
        events = list(train(net, Data(100), loss=loss, learner=Learner(), optimizer=optimizer, plan=plan(),
                            progress=Progress(), device=device, penalty=held_back))  # fmt: skip
        found.append(([e.loss for e in events if isinstance(e, Step)], list(net.parameters())))
    # twice the sum over twice the count: powers of two, so the same bits
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


def test_evaluations_come_when_planned_and_mark_the_best() -> None:
    net, scores = Net(), iter([0.5, 0.7, 0.6])
    optimizer = make_optimizer(dict(net.named_parameters()), ANATOMY, Rates(1e-2, 1e-2, 0.0, 1.0))
    progress = Progress()
    events = list(train(net, Data(4), loss=loss, learner=Learner(), optimizer=optimizer, plan=plan(), progress=progress,
                        device=Device(), evaluate=lambda: {"accuracy": next(scores)}))  # fmt: skip
    assert [(e.step, e.best) for e in events if isinstance(e, Evaluated)] == [(3, True), (6, True), (8, False)]
    assert (progress.best_step, progress.best_score, progress.evaluations_since_best) == (6, 0.7, 1)


def test_rates_fall_with_depth_and_decay_spares_vectors() -> None:
    optimizer = make_optimizer(dict(Net().named_parameters()), ANATOMY, Rates(1e-2, 5e-2, 0.1, 0.5))
    peaks = {(g["peak"], g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in optimizer.param_groups}
    assert peaks == {(5e-3, 0.1): 16, (5e-3, 0.0): 4, (1e-2, 0.1): 16, (1e-2, 0.0): 4, (5e-2, 0.1): 12, (5e-2, 0.0): 3}


def test_the_state_of_the_optimizer_comes_back() -> None:
    net, _ = run(4)
    named = dict(net.named_parameters())
    optimizer = make_optimizer(named, ANATOMY, Rates(1e-2, 1e-2, 0.0, 1.0))
    for parameter in named.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer_state(optimizer, named)
    fresh = make_optimizer(named, ANATOMY, Rates(1e-2, 1e-2, 0.0, 1.0))
    restore_optimizer(fresh, named, state)
    again = optimizer_state(fresh, named)
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_a_rate_rises_to_its_peak_and_never_reaches_zero(schedule: str) -> None:
    factors = [rate_factor(s, 100, schedule=schedule, warmup=0.1) for s in range(1, 101)]  # type: ignore[arg-type]
    assert factors[:10] == sorted(factors[:10])
    assert max(factors) == pytest.approx(1.0)
    assert min(factors) > 0
    assert factors[10:] == sorted(factors[10:], reverse=True)

"""A small network in float64 with old tasks on it, as retentions see them; nothing is read from disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.models.stand_in import evaluating, stand_in
from tunesmith.retention.base import Held
from tunesmith.train import randomness
from tunesmith.types import Batch, Loss

SEED, BATCH = 5, 8


class Net(nn.Module):
    """Two blocks, the first with dropout and perhaps BatchNorm, and a head of three classes."""

    def __init__(self, *, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        first = [nn.Linear(4, 6), *([nn.BatchNorm1d(6)] if norm else []), nn.Tanh(), randomness.Dropout(dropout, 1)]
        self.body = nn.ModuleList([nn.Sequential(*first), nn.Sequential(nn.Linear(6, 5), nn.Tanh())])
        self.head = nn.Linear(5, 3)
        self.double()

    def features(self, x: Tensor) -> Tensor:
        for block in self.body:
            x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x))
        return out


class Old:
    """An old task of 40 examples: `classes` with a head of two, `labels` with 0/1 for three, `features` with none."""

    def __init__(self, name: str = "old", says: str = "classes") -> None:
        draw = randomness.generator("toy", name)
        self.name, self.says, self.labelled = name, says, says != "features"
        self.x = torch.randn(40, 4, generator=draw, dtype=torch.float64)
        self.y = torch.randint(2, (40,), generator=draw)
        if says == "labels":
            self.y = torch.randint(2, (40, 3), generator=draw).double()
        self.head = nn.Linear(5, 3 if says == "labels" else 2).double().requires_grad_(False)

    def batch(self, step: int, count: int) -> Batch:
        rows = torch.randint(40, (count,), generator=randomness.generator(SEED, "old", self.name, step))
        places = tuple(range(BATCH, BATCH + count))
        return Batch({"x": self.x[rows]}, self.y[rows] if self.labelled else None, places)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        assert batch.labels is not None
        logits = self.outputs(model, batch)
        if self.says == "labels":
            total = functional.binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum") / 3
        else:
            total = functional.cross_entropy(logits, batch.labels, reduction="sum")
        return Loss(total, float(len(batch)))

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, Net)
        found: Tensor = model.features(batch.inputs["x"])
        return self.head(found) if self.labelled else found  # type: ignore[no-any-return]

    def distance(self, now: Tensor, before: Tensor, temperature: float) -> Tensor:
        if self.says == "features":
            return (now - before).square().sum() / before.square().sum()
        one, two = now / temperature, before / temperature
        if self.says == "labels":
            wanted, said = two.sigmoid(), one.sigmoid()
            each = wanted * (wanted / said).log() + (1 - wanted) * ((1 - wanted) / (1 - said)).log()
            return temperature**2 * each.mean()
        each = two.softmax(-1) * (two.log_softmax(-1) - one.log_softmax(-1))
        return temperature**2 * each.sum(-1).mean()


def new_batch(step: int, count: int = BATCH) -> Batch:
    """A batch of the new task, drawn by its step."""
    draw = randomness.generator("toy", "new", step)
    x = torch.randn(count, 4, generator=draw, dtype=torch.float64)
    return Batch({"x": x}, torch.randint(3, (count,), generator=draw), tuple(range(count)))


def new_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Summed loss of the new task."""
    assert batch.labels is not None
    return functional.cross_entropy(model(batch.inputs["x"]), batch.labels, reduction="sum")


def held_by(net: Net, *old: Old) -> Held:
    """All that a retention is handed, of the net as it stands now."""
    own = {n: t for n, t in [*net.named_parameters(), *net.named_buffers()]}
    learned = {name: tensor for name, tensor in own.items() if not name.startswith("head.")}
    start = {name: tensor.detach().clone() for name, tensor in own.items()}

    @contextmanager
    def switched_off() -> Iterator[None]:
        with evaluating(net), stand_in(net, start):
            yield

    return Held(net, learned, {name: start[name] for name in learned}, old, new_batch, switched_off, SEED, BATCH)


def move(net: Net, by: float = 0.1) -> None:
    """Bring the net's weights away from where they are, and leave it in training mode."""
    draw = randomness.generator("toy", "moved")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    net.train()


def gradients(
    net: Net, parts: Callable[[nn.Module, int], Iterator[Tensor]], step: int
) -> tuple[float, dict[str, Tensor]]:
    """Value of a penalty at a step, and its gradient by name; each part differentiated before the next is asked for."""
    net.zero_grad()
    value = 0.0
    for part in parts(net, step):
        part.backward()  # type: ignore[no-untyped-call]
        value += part.item()
    return value, {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}

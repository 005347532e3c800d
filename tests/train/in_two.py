"""What two processes do together, as a program that both of them run: `python tests/train/in_two.py FOLDER`.

Each leaves what it found in FOLDER/RANK.json; `test_in_two.py` holds these against each other.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tests.train.test_loop import Learner
from torch import Tensor, nn

from tunesmith.train import device as devices
from tunesmith.train.device import Device
from tunesmith.train.loop import Plan, Progress, train
from tunesmith.train.optimizer import Rates, make_optimizer
from tunesmith.types import Anatomy, Batch, Loss, MainScore, ModelSource


def sums(device: Device) -> list[list[float]]:
    """More than one message, one tensor larger than a message."""
    devices._MESSAGE = 40
    tensors = [torch.full((n,), float(n + device.rank)) for n in (3, 20, 1, 8)]
    device.sum_over_processes(tensors)
    return [tensor.tolist() for tensor in tensors]


def averages(device: Device) -> list[float]:
    """The second process counts three times, then not at all."""
    one, two = torch.tensor([float(device.rank)]), torch.tensor([float(device.rank)])
    device.average_over_processes([one], 3.0 if device.rank else 1.0)
    device.average_over_processes([two], 0.0 if device.rank else 2.0)
    return [one.item(), two.item()]


class Shares:
    """Three, then two, then one example a step: the second process has one, one and none."""

    steps_per_epoch = 3

    def __init__(self, device: Device) -> None:
        self.device = device

    def micro_batches(self, step: int) -> Sequence[Batch]:
        whole = torch.randn(4 - step, 4, generator=torch.Generator().manual_seed(step))
        places = list(range(4 - step))[self.device.rank :: self.device.processes]
        return [Batch({"x": whole[[i]].repeat(2, 1)}, torch.tensor([i % 2] * 2), (i, i)) for i in places]


def learned(device: Device) -> list[float]:
    """Weights and running statistics after three steps, with a penalty that reads the statistics."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(norm, nn.Linear(4, 2))

    def loss(model: nn.Module, batch: Batch) -> Loss:
        assert batch.labels is not None
        total = nn.functional.cross_entropy(model(batch.inputs["x"]), batch.labels, reduction="sum")
        return Loss(total, float(len(batch)))

    def penalty(model: nn.Module, step: int) -> Iterator[Tensor]:
        model.eval()
        yield model(torch.ones(2, 4)).square().mean()

    anatomy = Anatomy(("1",), ("1",), (), (), (), (), 4, 1)
    plan = Plan(3, 0, "constant", 0.0, 1.0, 99, MainScore("accuracy", "higher"), 0.1)
    statistics: list[Tensor] = [norm.running_mean, norm.running_var]  # type: ignore[list-item]
    steps = train(
        model,
        Shares(device),
        loss=loss,
        learner=Learner(),
        optimizer=make_optimizer(dict(model.named_parameters()), anatomy, Rates(0.1, 0.1, 0.0, 1.0)),
        plan=plan,
        progress=Progress(),
        device=device,
        penalty=penalty,
        statistics=statistics,
    )
    losses = [event.loss for event in steps]  # type: ignore[union-attr]
    values = [v for tensor in [*model.parameters(), *statistics] for v in tensor.detach().flatten().tolist()]
    return [*losses, *values]


def detected(device: Device, folder: Path) -> list[float]:
    """The losses of DETR on a picture with one box and one with many, which the processes see in opposite order and
    not equally often."""
    from tests.tiny_detectors import LABELS, SIDE, batch, load_kind, steady

    from tunesmith.models.detectors import detector_losses, load_detector

    with device.first_alone():  # the library writes nothing in the second process
        if device.is_main:
            load_kind("detr", folder / "detr")
        pretrained = load_detector(ModelSource("detr", str(folder / "detr")), LABELS, seed=1, size=SIDE)
    model: Any = steady(pretrained.model)
    inputs, targets = batch(whole=pretrained.processor.squash)
    few, many, found = 0, 2, {}
    for place in [many, few] if device.rank else [few, many, few]:
        cut = {name: value[place : place + 1] for name, value in inputs.items()}
        found[place] = detector_losses(model, cut, targets[place : place + 1]).total.item()
    return [found[few], found[many]]


def first_alone(device: Device, folder: Path) -> bool:
    """Whether the file that the first process makes slowly is there for the second."""
    file = folder / "made"
    with device.first_alone():
        if device.is_main:
            time.sleep(0.5)
            file.write_text("whole", encoding="utf-8")
        return file.is_file()


def first_fails(device: Device) -> bool:
    """Whether this process comes through a block in which the first one fails."""
    try:
        with device.first_alone():
            if device.is_main:
                raise ValueError("no such model")
    except ValueError:
        return False
    return True


def main() -> None:
    folder, device = Path(sys.argv[1]), Device()
    found = {
        "processes": device.processes,
        "sums": sums(device),
        "averages": averages(device),
        "learned": learned(device),
        "detected": detected(device, folder),
        "first_alone": first_alone(device, folder),
        "first_fails": first_fails(device),
    }
    (folder / f"{device.rank}.json").write_text(json.dumps(found), encoding="utf-8")
    device.wait()


if __name__ == "__main__":
    main()

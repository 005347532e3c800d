"""Features at the head: exact where the head is the last thing that runs, refused where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tunesmith.train.frozen import HeadAlone, keep_features
from tunesmith.types import Batch


class Net(nn.Module):
    """A body and a head; `after`: what comes behind the head."""

    def __init__(self, *, after: float = 1.0, twice: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
        self.after, self.twice = after, twice

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.body(pixels).tanh()
        if self.twice:
            self.head(features)
        answer: Tensor = self.head(features) * self.after
        return answer


def batches(pixels: Tensor) -> Iterator[tuple[Sequence[int], Batch]]:
    for numbers in ([4, 0], [1, 3, 2]):
        yield numbers, Batch({"pixels": pixels[numbers]}, None, tuple(numbers))


def test_the_head_alone_gives_the_answers_of_the_whole(tmp_path: Path) -> None:
    net, pixels = Net(), torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    features = keep_features(net, net.head, batches(pixels), 5, tmp_path / "f")
    assert features is not None
    assert len(features) == 5
    alone = HeadAlone(net.head)
    for numbers, batch in batches(pixels):
        rows = torch.stack([torch.from_numpy(features[i]["features"].copy()) for i in numbers])
        assert torch.equal(alone(rows), net(batch.inputs["pixels"]))


def test_what_comes_behind_the_head_forbids_it(tmp_path: Path) -> None:
    net = Net(after=2.0)
    assert keep_features(net, net.head, batches(torch.randn(5, 4)), 5, tmp_path / "f") is None


def test_a_head_that_runs_twice_forbids_it(tmp_path: Path) -> None:
    net = Net(twice=True)
    assert keep_features(net, net.head, batches(torch.randn(5, 4)), 5, tmp_path / "f") is None

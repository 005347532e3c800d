"""A running average of the learned tensors, which is scored and delivered in place of their last values.

After update t: average <- d average + (1 - d) value, with d = min(decay, (1 + t) / (10 + t)), so that the first
values weigh little in a short run (the form of TensorFlow's ExponentialMovingAverage). Averages of weights along the
path generalise a little better and make the choice of the last step less chancy (Polyak and Juditsky 1992; Tarvainen
and Valpola 2017, arXiv 1703.01780).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """The average of `learned`; with decay 0 there is none, and nothing is done or kept."""

    def __init__(self, learned: Mapping[str, Tensor], decay: float) -> None:
        self.learned = learned
        self.decay = decay
        self.tensors = {name: t.detach().clone() for name, t in learned.items()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the values after the update of 1-based `step`. Counts (whole numbers) are copied, not averaged."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, mean in self.tensors.items():
            value = self.learned[name].detach()
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back a saved average."""
        for name, mean in self.tensors.items():
            mean.copy_(tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The learned tensors hold the average inside, and their own values again afterwards."""
        kept = {name: self.learned[name].detach().clone() for name in self.tensors}
        self._write(self.tensors)
        try:
            yield
        finally:
            self._write(kept)

    def settle(self) -> None:
        """Make the average the learned tensors' values for good."""
        self._write(self.tensors)

    @torch.no_grad()
    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.learned[name].copy_(tensor)

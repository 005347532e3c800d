"""Something is tried on a fresh learner, and afterwards all is as it was, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tunesmith.run.setup import Learning, Ready
from tunesmith.train import randomness


@contextmanager
def tryout(ready: Ready, learning: Learning, *, updates: bool) -> Iterator[Mapping[str, Tensor]]:
    """Put back, at the end, whatever a forward and backward pass moves: moving statistics, the method's own state, the
    modes of modules, gradients (to none), precision, and all randomness of torch and of the counter.

    updates: whether weights move too; without, no second copy of them is held. Yields what was kept of `learned`. The
    block must not use the learner's optimizer.
    """
    method, model = ready.recipe.method, learning.model
    kept = {n: t.detach().clone() for n, t in learning.learned.items() if updates or not isinstance(t, nn.Parameter)}
    state = {name: tensor.clone() for name, tensor in method.state(model).items()}
    modes = [(module, module.training) for module in model.modules()]
    learns = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    precision, clock = ready.device.precision, randomness.now()
    devices = [ready.device.device] if ready.device.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield kept
    finally:
        ready.device.precision = precision
        randomness.set_back(clock)
        with torch.no_grad():
            for name, value in kept.items():
                learning.learned[name].copy_(value)
        for parameter, wanted in learns:
            parameter.grad = None
            parameter.requires_grad_(wanted)
        method.restore(model, state)
        for module, training in modes:
            module.training = training

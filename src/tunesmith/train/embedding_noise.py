"""Noise on the word embeddings while a language model learns, which keeps answers from copying the data's form.

    E' = E + alpha / sqrt(tokens x size) u,   u uniform in (-1, 1), for each number of each token

Jain et al. 2023, NEFTune: Noisy Embeddings Improve Instruction Finetuning, arXiv 2310.05914 (alpha 5 to 15). `tokens`
are the example's own, without padding. Each example's noise follows from (seed, step, its place in the whole batch)
alone: a resumed run, micro-batches and packed rows draw the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.train.randomness import draws_for


@contextmanager
def embedding_noise(model: nn.Module, alpha: float, inputs: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the model's word embeddings carry noise wherever they are in training mode.

    inputs: `attention_mask` [examples, tokens], or of packed rows `segments` [rows, tokens]: at each place the number
    of its example in this forward pass, from 1, and 0 at padding. alpha 0: nothing is added.
    """
    if not alpha:
        yield
        return
    owners = _owners(inputs)

    def add(module: nn.Module, _given: Any, embeddings: Tensor) -> Tensor:
        return embeddings + noise(embeddings, owners, alpha) if module.training else embeddings

    language_model: Any = model
    handle = language_model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def noise(embeddings: Tensor, owners: Tensor, alpha: float) -> Tensor:
    """What is added to embeddings [rows, tokens, size]; owners [rows, tokens] as `segments` above. Zero at padding."""
    made = torch.zeros(embeddings.shape)
    owners, size = owners.cpu(), embeddings.shape[-1]
    for number in range(1, int(owners.max()) + 1):
        rows, places = (owners == number).nonzero(as_tuple=True)
        drawn = torch.rand(len(rows), size, generator=draws_for(number - 1, "neftune"))
        made[rows, places] = drawn.mul_(2).sub_(1).mul_(alpha / math.sqrt(max(1, len(rows) * size)))
    return made.to(embeddings)


def _owners(inputs: Mapping[str, Tensor]) -> Tensor:
    if "segments" in inputs:
        return inputs["segments"]
    mask = inputs["attention_mask"]
    return (mask != 0) * torch.arange(1, len(mask) + 1, device=mask.device)[:, None]

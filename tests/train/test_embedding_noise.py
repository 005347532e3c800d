"""NEFTune's noise: its size, where it lies, and that neither micro-batches nor packing change it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.methods.base import registry
from tunesmith.train.embedding_noise import embedding_noise, noise
from tunesmith.train.randomness import begin
from tunesmith.types import Pretrained

SIZE = 32
OWNERS = torch.tensor([[1, 1, 1, 1, 0], [2, 2, 0, 0, 0], [3, 3, 3, 0, 0]])


def drawn(owners: Tensor, positions: tuple[int, ...], step: int = 4, alpha: float = 5.0) -> Tensor:
    begin(7, step, positions)
    return noise(torch.zeros(*owners.shape, SIZE), owners, alpha)


def test_it_is_as_large_as_the_source_says_and_nothing_lies_on_padding() -> None:
    found = drawn(OWNERS, (0, 1, 2))
    assert not found[OWNERS == 0].any()
    for row, tokens in enumerate((4, 2, 3)):
        limit = 5 / math.sqrt(tokens * SIZE)
        own = found[row, :tokens]
        assert own.abs().max() <= limit
        assert own.abs().mean() == pytest.approx(limit / 2, rel=0.15)  # a uniform draw of 64 numbers or more
        assert torch.equal(drawn(OWNERS, (0, 1, 2), alpha=10)[row], 2 * found[row])


def test_micro_batches_and_packed_rows_draw_what_the_whole_batch_draws_and_steps_draw_anew() -> None:
    whole = drawn(OWNERS, (0, 1, 2))
    assert torch.equal(drawn(torch.tensor([[1, 1, 1, 0]]), (2,))[0, :3], whole[2, :3])
    packed = drawn(torch.tensor([[2, 2, 1, 1, 1, 1], [3, 3, 3, 0, 0, 0]]), (0, 1, 2))
    assert torch.equal(packed[0, :2], whole[1, :2])
    assert torch.equal(packed[0, 2:], whole[0, :4])
    assert torch.equal(packed[1, :3], whole[2, :3])
    assert not torch.equal(drawn(OWNERS, (0, 1, 2), step=5), whole)


@pytest.mark.parametrize("method", ["full", "lora", "prefix_tuning", "prompt_tuning"])
def test_a_model_feels_it_in_training_mode_alone_whatever_wraps_it(
    method: str, tiny: Callable[..., Pretrained]
) -> None:
    pretrained = tiny("llama_lm")
    model: Any = registry.make({"name": method}).prepare(pretrained)
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 0], [8, 9, 10, 11]])}
    inputs["attention_mask"] = (inputs["input_ids"] != 0).long()

    def logits(alpha: float, *, training: bool) -> Tensor:
        model.train(training)
        begin(0, 1, (0, 1))
        with torch.no_grad(), embedding_noise(model, alpha, inputs):
            found: Tensor = model(**inputs).logits
        return found

    plain = logits(0.0, training=True)
    assert torch.equal(logits(5.0, training=False), plain)  # these models have no dropout
    noisy = logits(5.0, training=True)
    assert not torch.allclose(noisy, plain, atol=1e-3)
    assert torch.equal(logits(5.0, training=True), noisy)
    assert torch.equal(logits(0.0, training=True), plain)

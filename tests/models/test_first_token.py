"""The last block for the first token alone: the same answers, gradients and dropout as the whole block."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tunesmith.models.first_token import use_first_token
from tunesmith.train.randomness import begin, use_counter_dropout
from tunesmith.types import Pretrained

Load = Callable[..., Pretrained]
TEXTS = ["a good film", "the plot was very dull and not a story", "great actor", "bad"]


def run(model: Any, inputs: Any, *, training: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.train(training)
    model.zero_grad()
    begin(0, 1, range(len(TEXTS)))
    logits = model(**inputs).logits
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 1])).backward()
    return logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training with dropout"])
def test_answers_and_gradients_are_those_of_the_whole_block(tiny: Load, kind: str, training: bool) -> None:
    pretrained = tiny(kind)
    model: Any = pretrained.model
    use_counter_dropout(model)
    quick = copy.deepcopy(model)
    assert use_first_token(quick, pretrained.anatomy.blocks[-1])
    encoded = pretrained.processor(TEXTS, padding=True, return_tensors="pt")
    inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    logits, gradients = run(model, inputs, training=training)
    quick_logits, quick_gradients = run(quick, inputs, training=training)
    torch.testing.assert_close(quick_logits, logits, rtol=1e-5, atol=1e-6)  # float32, sums in another order
    assert gradients.keys() == quick_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(quick_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["distilbert", "albert", "modernbert", "deberta-v2", "gpt2", "llama"])
def test_a_model_of_another_build_is_left_alone(tiny: Load, kind: str) -> None:
    pretrained = tiny(kind)
    assert not use_first_token(pretrained.model, pretrained.anatomy.blocks[-1])

"""Parts of nine families, found by what they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from tests.conftest import TINY_MODELS

from tunesmith.types import Pretrained

HEADS = {
    "bert": ("bert.pooler", "classifier"),
    "roberta": ("classifier",),
    "distilbert": ("pre_classifier", "classifier"),
    "electra": ("classifier",),
    "deberta-v2": ("pooler", "classifier"),
    "albert": ("albert.pooler", "classifier"),
    "modernbert": ("head", "classifier"),
    "gpt2": ("score",),
    "llama": ("score",),
}
ROLES = {
    "modernbert": {"query_key_value": 3, "attention_output": 3, "gate_up": 3, "down": 3},
    "gpt2": {"query_key_value": 2, "attention_output": 2, "up": 2, "down": 2},
    "llama": {"query": 2, "key": 2, "value": 2, "attention_output": 2, "gate": 2, "up": 2, "down": 2},
    "albert": {"query": 1, "key": 1, "value": 1, "attention_output": 1, "up": 1, "down": 1},
}
PLAIN = {"query": 2, "key": 2, "value": 2, "attention_output": 2, "up": 2, "down": 2}


@pytest.mark.parametrize("kind", TINY_MODELS)
def test_head_blocks_and_roles_are_found(kind: str, tiny: Callable[..., Pretrained]) -> None:
    anatomy = tiny(kind).anatomy
    assert anatomy.head == HEADS[kind]
    found = Counter(layer.role for layer in anatomy.of())
    assert dict(found) == ROLES.get(kind, PLAIN)
    assert len(anatomy.blocks) == {"modernbert": 3, "albert": 1}.get(kind, 2)
    assert anatomy.heads == 4
    assert anatomy.hidden_size == 32


def test_finding_parts_leaves_the_model_as_it_was(tiny: Callable[..., Pretrained]) -> None:
    import torch

    from tunesmith.models.anatomy import find_anatomy

    model = tiny("bert").model
    model.train()
    next(model.parameters()).requires_grad_(False)
    state = torch.get_rng_state()
    find_anatomy(model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not next(model.parameters()).requires_grad
    assert all(p.grad is None for p in model.parameters())

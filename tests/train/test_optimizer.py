"""Each learned tensor's highest rate: by head, block and embedding, whether these are modules or bare parameters."""

from __future__ import annotations

import torch
from torch import nn

from tunesmith.train.optimizer import Rates, make_optimizer
from tunesmith.types import Anatomy

ANATOMY = Anatomy(
    head=("head",), classifier=("head",), blocks=("blocks.0", "blocks.1"), attention=(), layers=(),
    embeddings=("patch_embed", "pos_embed"), hidden_size=4, heads=1,
)  # fmt: skip


def test_rates_fall_with_depth_down_to_embeddings_that_are_bare_parameters() -> None:
    names = ("pos_embed", "patch_embed.weight", "blocks.0.weight", "blocks.1.weight", "norm.weight", "head.weight")
    learned = {name: nn.Parameter(torch.zeros(2, 2)) for name in names}
    made = make_optimizer(learned, ANATOMY, Rates(body=1.0, head=3.0, weight_decay=0.0, layer_decay=0.5))
    peaks = {id(p): group["peak"] for group in made.param_groups for p in group["params"]}
    assert [peaks[id(learned[name])] for name in names] == [0.25, 0.25, 0.5, 1.0, 1.0, 3.0]


def test_a_methods_factor_multiplies_the_rate_of_what_it_names() -> None:
    learned = {name: nn.Parameter(torch.zeros(2, 2)) for name in ("blocks.1.lora_A", "blocks.1.lora_B", "head.weight")}
    rates = Rates(body=1.0, head=3.0, weight_decay=0.0, layer_decay=1.0)
    made = make_optimizer(learned, ANATOMY, rates, lambda name: 16.0 if name.endswith("lora_B") else 1.0)
    peaks = {id(p): group["peak"] for group in made.param_groups for p in group["params"]}
    assert [peaks[id(tensor)] for tensor in learned.values()] == [1.0, 16.0, 3.0]


def test_the_rate_that_is_shown_is_the_bodys_and_the_heads_where_it_learns_alone() -> None:
    rates = Rates(body=1.0, head=3.0, weight_decay=0.0, layer_decay=1.0)
    assert rates.shown(["blocks.1.lora_A", "head.weight"], ANATOMY) == 1.0
    assert rates.shown(["head.weight"], ANATOMY) == 3.0

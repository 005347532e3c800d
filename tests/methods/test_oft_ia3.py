from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tunesmith.errors import ModelError
from tunesmith.methods.ia3 import IA3
from tunesmith.methods.oft import OFT
from tunesmith.types import Pretrained

Load = Callable[..., Pretrained]


def test_oft_takes_the_largest_block_that_divides_every_layer(tiny: Load) -> None:
    model = OFT().prepare(tiny("llama"))  # inputs of 32 and of 80
    assert model.peft_config["default"].oft_block_size == 16


def test_oft_never_changes_the_block_size_that_was_asked_for(tiny: Load) -> None:
    with pytest.raises(ModelError, match=r"does not divide.*Sizes that do: 2, 4, 8, 16"):
        OFT(block_size=32).prepare(tiny("llama"))


def test_ia3_scales_keys_values_and_feed_forward_inputs(tiny: Load) -> None:
    model = IA3().prepare(tiny("llama"))
    shapes = {n.split(".")[-3]: tuple(p.shape) for n, p in model.named_parameters() if "ia3_l" in n}
    assert shapes == {"k_proj": (16, 1), "v_proj": (16, 1), "down_proj": (1, 80)}


def test_ia3_says_what_it_missed(tiny: Load) -> None:
    pretrained = tiny("bert")
    layers = tuple(replace(x, role="other") if x.role == "down" else x for x in pretrained.anatomy.layers)
    bare = replace(pretrained, anatomy=replace(pretrained.anatomy, layers=layers))
    with pytest.raises(ModelError, match="no layers for feed-forward output"):
        IA3().prepare(bare)

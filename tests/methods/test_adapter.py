from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tunesmith.errors import ModelError
from tunesmith.methods.adapter import Adapter
from tunesmith.types import Pretrained

Load = Callable[..., Pretrained]
IDS = torch.arange(3, 9)[None]


def test_what_is_written_is_a_plain_wider_model(tiny: Load, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    pretrained = tiny("bert")
    method = Adapter(size=8)
    method.save(method.prepare(pretrained), tmp_path, pretrained)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert plain.config.intermediate_size == 64 + 8
    assert plain.config.num_labels == 3
    assert pretrained.model.config.intermediate_size == 64


def test_a_wider_language_model_still_knows_where_to_stop_and_which_weights_are_tied(tiny: Load) -> None:
    method, pretrained = Adapter(size=8), tiny("gpt2_lm")
    pretrained.model.generation_config.eos_token_id = [3, 4]
    merged = method.merge(method.prepare(pretrained))
    assert merged.generation_config.eos_token_id == [3, 4]
    assert merged.get_input_embeddings().weight is merged.get_output_embeddings().weight


def test_in_training_mode_too_it_is_the_wider_model(tiny: Load) -> None:
    method = Adapter(size=8)
    model = method.prepare(tiny("gpt2"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("added"):
                parameter.normal_()
    merged = method.merge(model)
    torch.manual_seed(0)
    expected = model.train()(input_ids=IDS).logits
    torch.manual_seed(0)
    got = merged.train()(input_ids=IDS).logits
    if model.config.attn_pdrop == 0:  # tunesmith's own attention draws by counter, so the masks agree in any case
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_it_learns_what_the_formula_says(tiny: Load) -> None:
    pretrained = tiny("bert")
    model = Adapter(size=4, scale=2.0).prepare(pretrained)
    block = model.bert.encoder.layer[0]
    up, down = block.intermediate.dense, block.output.dense
    with torch.no_grad():
        down.added.normal_()
        up.added_bias.normal_()
        x = torch.randn(2, 5, 32)
        act = block.intermediate.intermediate_act_fn
        frozen = down.base(act(up.base(x)))
        learned = 2.0 * act(x @ up.added.T + up.added_bias) @ down.added.T
        torch.testing.assert_close(down(act(up(x))), frozen + learned, atol=1e-5, rtol=1e-5)


def test_a_model_without_up_and_down_is_refused(tiny: Load) -> None:
    pretrained = tiny("bert")
    layers = tuple(replace(x, role="other") if x.role == "up" else x for x in pretrained.anatomy.layers)
    bare = replace(pretrained, anatomy=replace(pretrained.anatomy, layers=layers))
    with pytest.raises(ModelError, match="no feed-forward part of one matrix up and one down"):
        Adapter().prepare(bare)


def test_a_base_stored_in_bfloat16_works_without_autocast(tiny: Load) -> None:
    pretrained = tiny("bert")
    pretrained.model.to(torch.bfloat16)
    model = Adapter(size=4).prepare(pretrained)
    assert {p.dtype for n, p in model.named_parameters() if "added" in n} == {torch.float32}
    model(input_ids=IDS).logits.sum().backward()


def test_merging_draws_no_random_numbers(tiny: Load) -> None:
    method = Adapter(size=4)
    model = method.prepare(tiny("bert"))
    before = torch.get_rng_state()
    method.merge(model)
    assert torch.equal(torch.get_rng_state(), before)

"""full, head, last_blocks, bitfit, norm_tuning: which parameters learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunesmith.errors import ModelError
from tunesmith.methods.base import registry
from tunesmith.methods.last_blocks import LastBlocks
from tunesmith.types import Pretrained

Load = Callable[..., Pretrained]


def learned(name: str, pretrained: Pretrained, **options: int) -> set[str]:
    method = registry.make({"name": name, **options})
    return set(method.learned(method.prepare(pretrained)))


def test_the_pooler_belongs_to_the_head(tiny: Load) -> None:
    names = learned("head", tiny("bert"))
    assert names == {"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"}


def test_the_last_block_and_nothing_below_it_learns(tiny: Load) -> None:
    names = learned("last_blocks", tiny("roberta"), blocks=1)
    assert names
    assert all(n.startswith(("roberta.encoder.layer.1.", "classifier.")) for n in names)


@pytest.mark.parametrize(
    ("kind", "norm"), [("gpt2", "transformer.ln_f.weight"), ("modernbert", "model.final_norm.weight")]
)
def test_the_norm_behind_the_last_block_learns_with_it(tiny: Load, kind: str, norm: str) -> None:
    assert norm in learned("last_blocks", tiny(kind), blocks=1)


def test_a_norm_that_every_block_reads_stays_when_the_last_learns(tiny: Load) -> None:
    names = learned("last_blocks", tiny("deberta-v2"), blocks=1)
    assert not [n for n in names if n.startswith("deberta.encoder.LayerNorm") or ".layer.0." in n]


def test_more_blocks_than_there_are_is_refused(tiny: Load) -> None:
    with pytest.raises(ModelError, match=r"has 2 blocks.*1 to 2"):
        LastBlocks(blocks=3).prepare(tiny("bert"))


def test_bitfit_learns_biases_and_the_head_only(tiny: Load) -> None:
    pretrained = tiny("bert")
    names = learned("bitfit", pretrained)
    heads = {n for n in names if any(n.startswith(f"{head}.") for head in pretrained.anatomy.head)}
    assert all(n.endswith("bias") for n in names - heads)
    assert "bert.encoder.layer.0.output.LayerNorm.bias" in names


def test_norm_tuning_learns_norms_and_the_head_only(tiny: Load) -> None:
    pretrained = tiny("llama")
    names = learned("norm_tuning", pretrained)
    assert names == {n for n, _ in pretrained.model.named_parameters() if "norm" in n} | {"score.weight"}


def test_the_whole_head_learns_behind_a_prefix_of_peft(tiny: Load) -> None:
    pretrained = tiny("bert")
    model = registry.make("lora").prepare(pretrained)
    heads = [f".{head}." for head in pretrained.anatomy.head]
    names = [n for n, p in model.named_parameters() if p.requires_grad and any(h in f".{n}" for h in heads)]
    assert len(names) == 4

"""Checkpointed blocks forget activations and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from tests.pictures_models import tiny_vision
from torch import Tensor, nn

from tunesmith.methods.base import registry
from tunesmith.train import randomness
from tunesmith.train.activations import checkpoint_blocks
from tunesmith.types import Pretrained

Tiny = Callable[..., Pretrained]


def gradients(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    for parameter in model.parameters():
        parameter.grad = None
    randomness.begin(1, 7, tuple(range(len(next(iter(inputs.values()))))))
    answer = model(**inputs) if "input_ids" in inputs else model(inputs["picture"])
    logits: Tensor = getattr(answer, "logits", answer)
    logits.square().sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), found


def texts() -> dict[str, Tensor]:
    ids = torch.randint(5, 40, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("bert", "full"),
        ("bert", "lora"),
        ("bert", "prefix_tuning"),
        ("gpt2", "full"),
        ("gpt2", "prefix_tuning"),
        ("llama", "full"),
        ("deberta-v2", "full"),
        ("albert", "full"),
        ("modernbert", "full"),
        ("gpt2_lm", "prompt_tuning"),
        ("llama_lm", "prefix_tuning"),
        ("llama_lm", "llama_adapter"),
    ],
)
def test_gradients_with_dropout_are_the_same_bit_for_bit(tiny: Tiny, kind: str, method: str) -> None:
    pretrained = tiny(kind)
    torch.manual_seed(0)
    made: Any = registry.make(method)
    model = made.prepare(pretrained)
    randomness.use_counter_dropout(model)
    model.train()
    assert any(isinstance(m, randomness.Dropout) and m.p > 0 for m in model.modules()) or kind in (
        "llama", "llama_lm", "albert", "modernbert")  # fmt: skip
    plain_logits, plain = gradients(model, texts())
    assert checkpoint_blocks(pretrained.model, pretrained.anatomy) == len(pretrained.anatomy.blocks)
    logits, found = gradients(model, texts())
    assert torch.equal(logits, plain_logits)
    assert plain.keys() == found.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_norms_with_moving_statistics_count_each_batch_once() -> None:
    pretrained = tiny_vision("timm_resnet")
    model = pretrained.model.train()
    other = copy.deepcopy(model)
    picture = {"picture": torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
    _, plain = gradients(other, picture)
    checkpoint_blocks(model, pretrained.anatomy)
    _, found = gradients(model, picture)
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    moved = dict(other.named_buffers())
    assert moved
    assert all(torch.equal(tensor, moved[name]) for name, tensor in model.named_buffers())


def test_fewer_activations_are_kept(tiny: Tiny) -> None:
    def kept(model: nn.Module) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            gradients_of = model(**texts()).logits.sum()
        del gradients_of
        return sum(sizes.values())

    pretrained = tiny("bert")
    model = pretrained.model.train()
    before = kept(model)
    checkpoint_blocks(model, pretrained.anatomy)
    assert kept(model) < 0.7 * before


def test_a_copy_runs_on_its_own_weights_and_names_stay(tiny: Tiny) -> None:
    pretrained = tiny("bert")
    model = pretrained.model.train()
    names = list(model.state_dict())
    checkpoint_blocks(model, pretrained.anatomy)
    assert list(model.state_dict()) == names
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    logits, _ = gradients(other, texts())
    assert torch.equal(logits, torch.zeros_like(logits))


def test_it_can_be_done_twice(tiny: Tiny) -> None:
    pretrained = tiny("bert")
    block = pretrained.model.get_submodule(pretrained.anatomy.blocks[0])
    checkpoint_blocks(pretrained.model, pretrained.anatomy)
    checkpoint_blocks(pretrained.model, pretrained.anatomy)
    assert "forward" in block.__dict__
    gradients(pretrained.model.train(), texts())

"""Another task's head on a network, for a while."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.pictures_models import SIDE, tiny_vision
from tests.tiny_detectors import batch, lively, load_kind, named, over_backbone
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.methods.base import registry
from tunesmith.models.detectors import detect, load_detector
from tunesmith.models.head_swap import with_head
from tunesmith.types import Pretrained

Tiny = Callable[..., Pretrained]
IDS = torch.tensor([[2, 5, 7, 3], [2, 9, 11, 3]])


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    return found


def head_of(pretrained: Pretrained) -> dict[str, nn.Module]:
    return {name: pretrained.model.get_submodule(name) for name in pretrained.anatomy.head}


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["", "lora", "prompt_tuning"])
def test_a_text_model_answers_by_the_head_put_in_and_by_its_own_again(kind: str, method: str, tiny: Tiny) -> None:
    old, new = tiny(kind, labels=5, seed=4), tiny(kind)
    model = registry.make({"name": method}).prepare(new).eval() if method else new.model
    own, names = logits(model), [name for name, _ in model.named_modules()]
    with with_head(model, head_of(old)):
        assert logits(model).shape == (2, 5)
        if method != "prompt_tuning":  # fresh prompts are random, lora answers as the network alone
            assert torch.equal(logits(model), logits(old.model))
    assert torch.equal(logits(model), own)
    assert [name for name, _ in model.named_modules()] == names


@pytest.mark.parametrize("kind", ["timm_resnet", "timm_vit", "torchvision_mobilenet", "hf_resnet", "hf_vit"])
@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_a_picture_model_answers_by_the_head_put_in(kind: str, method: str) -> None:
    old, new = tiny_vision(kind, labels=5, seed=4), tiny_vision(kind)
    pictures = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))

    def answers(model: nn.Module) -> Tensor:
        with torch.no_grad():
            found = model(pictures)
        result: Tensor = getattr(found, "logits", found)
        return result

    model = registry.make({"name": method, **({"size": 8} if method == "adapter" else {})}).prepare(new).eval()
    own = answers(model)
    with with_head(model, head_of(old)):
        assert torch.equal(answers(model), answers(old.model))
    assert torch.equal(answers(model), own)


DETECTORS = ("faster_rcnn", "retinanet", "fcos", "deformable_detr", "rt_detr_v2", "yolos")
COCO = ("white cell", "dog", "platelet", "cat", "bird")


def detectors(kind: str, folder: Path) -> tuple[Pretrained, Pretrained]:
    """One of five labels and one of three, alike but for the class layers."""
    if kind in ("faster_rcnn", "retinanet", "fcos"):
        old = over_backbone(kind, COCO)
        lively(old.model)
        new = over_backbone(kind)
        mine = old.model.state_dict()
        kept = {n: mine[n] for n, t in new.model.state_dict().items() if mine[n].shape == t.shape}
        new.model.load_state_dict(kept, strict=False)
        return old, new
    return load_kind(kind, folder / "old", COCO), load_kind(kind, folder / "new")


def class_layers(pretrained: Pretrained) -> dict[str, nn.Module]:
    """The class layers alone, so that a network of three labels carries what tells five apart."""
    return {name: pretrained.model.get_submodule(name) for name in pretrained.anatomy.classifier}


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_detector_finds_by_the_class_layers_put_in_whatever_their_number_of_classes(
    kind: str, tmp_path: Path
) -> None:
    old, new = detectors(kind, tmp_path)
    inputs, _ = batch(2, whole=True)
    own, expected = detect(new.model, inputs), detect(old.model, inputs)
    with with_head(new.model, class_layers(old)):
        assert np.array_equal(detect(new.model, inputs), expected)
    assert np.array_equal(detect(new.model, inputs), own)
    assert (expected[..., 4] >= 0).any()
    assert not np.array_equal(own, expected)


def test_every_level_of_an_ssd_reckons_with_the_new_classes() -> None:
    source = named("ssdlite320_mobilenet_v3_large")
    old, model = (load_detector(source, labels, seed=1, pretrained=False).model for labels in (COCO, COCO[:3]))
    layers: Any = model.get_submodule("head.classification_head")
    before = int(vars(old.get_submodule("head.classification_head"))["num_columns"])
    head = {n: m for n, m in old.named_modules() if n.startswith("head.classification_head.module_list.")}
    head = {n: m for n, m in head.items() if isinstance(m, nn.Conv2d) and n.endswith(".1")}
    own = layers.num_columns
    with with_head(model, head):
        assert layers.num_columns == before
    assert layers.num_columns == own == before - 2


def test_calls_may_be_nested_and_an_exception_puts_all_back(tiny: Tiny) -> None:
    model, first, second = tiny("bert").model, tiny("bert", labels=4, seed=1), tiny("bert", labels=6, seed=2)
    before = dict(model.named_modules())
    with with_head(model, head_of(first)):
        with with_head(model, head_of(second)):
            assert logits(model).shape == (2, 6)
        assert torch.equal(logits(model), logits(first.model))
    with pytest.raises(KeyError, match="inside"), with_head(model, head_of(first)):
        raise KeyError("inside")
    after = dict(model.named_modules())
    assert all(after[name] is module for name, module in before.items())
    assert len(after) == len(before)


def test_a_head_takes_the_mode_of_the_network_and_gets_its_own_back(tiny: Tiny) -> None:
    model, head = tiny("roberta").model.train(), head_of(tiny("roberta", labels=5, seed=1))
    with with_head(model, head):
        assert all(part.training for module in head.values() for part in module.modules())
        model.eval()
    assert not any(part.training for module in head.values() for part in module.modules())
    model.eval()
    for module in head.values():
        module.train()
    with with_head(model, head):
        assert not any(part.training for module in head.values() for part in module.modules())
    assert all(part.training for module in head.values() for part in module.modules())


def test_gradients_reach_the_network_and_not_the_head_that_was_there(tiny: Tiny) -> None:
    new, head = tiny("bert"), head_of(tiny("bert", labels=5, seed=1))
    for module in head.values():
        module.requires_grad_(False)
    with with_head(new.model, head):
        loss = new.model(input_ids=IDS).logits.square().sum()
    loss.backward()
    named_gradients = {name: p.grad for name, p in new.model.named_parameters()}
    heads = tuple(f"{name}." for name in new.anatomy.head)
    assert all(g is None for n, g in named_gradients.items() if n.startswith(heads))
    assert any(g is not None and bool(g.any()) for n, g in named_gradients.items() if ".layer.0." in n)
    assert all(p.grad is None for module in head.values() for p in module.parameters())


def test_a_part_of_the_head_that_is_not_named_stays(tiny: Tiny) -> None:
    new, old = tiny("bert"), tiny("bert", labels=5, seed=1)
    pooler = new.model.get_submodule("bert.pooler")
    classifier: Mapping[str, nn.Module] = {"classifier": copy.deepcopy(old.model.get_submodule("classifier"))}
    with with_head(new.model, classifier):
        assert new.model.get_submodule("bert.pooler") is pooler
        assert logits(new.model).shape == (2, 5)


def test_a_head_of_another_architecture_is_refused_with_what_the_model_has(tiny: Tiny) -> None:
    model, head = tiny("bert").model, {"score": nn.Linear(32, 3)}
    with pytest.raises(ModelError, match=r'no module "score".*bert, dropout, classifier'), with_head(model, head):
        pass
    assert logits(model).shape == (2, 3)

"""What every method promises on every kind of detector: which work, which are refused, and what is delivered."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, registry
from tunesmith.models.detectors import detector_losses, load_detector, read_detector
from tunesmith.models.whole import write_whole
from tunesmith.train import randomness
from tunesmith.types import Pretrained

from ..tiny_detectors import KINDS, LABELS, OVER, SIDE, batch, lively, load_kind, named, over_backbone
from .test_vision_methods import SHORT

KNOWN = ("white cell", "dog", "platelet")
"""The classes that the tiny detectors on disk know: then their head is no new layer but the pretrained lists."""
DETECTORS = (*OVER, *KINDS, "deformable_detr known", "d_fine known")
TEXTS = ("prompt_tuning", "p_tuning", "llama_adapter")
TOKENS = ("visual_prompt", "prefix_tuning")
LINEAR = ("vera", "adalora")
CANNOT = {
    **{(name, kind): "reads pictures|language models" for name in TEXTS for kind in DETECTORS},
    **{(name, kind): "vision transformer" for name in TOKENS for kind in DETECTORS},
    **{(name, kind): "changes linear layers" for name in LINEAR for kind in DETECTORS if kind != "yolos"},
    ("adapter", "yolos"): "no plain convolution with a middle",
}
WORKING = [(name, kind) for kind in DETECTORS for name in registry.names() if (name, kind) not in CANNOT]
QUICK = {"deformable_detr": ("ia3", "lokr", "loha"), "d_fine": ("lora", "oft")}
"""Tuned in every run of the tests: detectors whose head shares weights, and which raise where peft asks for words."""
PEFT = ("lora", "ia3", "oft", "lokr", "loha")
TRIED = (*QUICK, "faster_rcnn", "retinanet", "yolos")
"""Kinds on which every run of the tests tries each method once; the others are among the slow tests."""


def params(pairs: list[tuple[str, str]]) -> list[Any]:
    quick = [name in QUICK.get(kind, ()) for name, kind in pairs]
    marks = [() if each else (pytest.mark.slow,) for each in quick]
    return [pytest.param(pair, id=" on ".join(pair), marks=mark) for pair, mark in zip(pairs, marks, strict=True)]


@dataclass(frozen=True)
class Tuned:
    """A detector after three steps, and what it was before."""

    method: Method
    pretrained: Pretrained
    model: nn.Module
    untouched: Mapping[str, Tensor]
    before: Mapping[str, Tensor]
    start: Mapping[str, Tensor]
    missing: set[str]
    answers: Mapping[str, Tensor]


@functools.cache
def _read(kind: str, folder: Path) -> Pretrained:
    name, _, known = kind.partition(" ")
    if name in OVER:
        found = over_backbone(name)
        lively(found.model)
        return found
    return load_kind(name, folder / name, KNOWN if known else LABELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("detectors")


def fresh(kind: str, folder: Path) -> Pretrained:
    found = _read(kind, folder)
    return replace(found, model=copy.deepcopy(found.model))


def make(name: str) -> Method:
    return registry.make({"name": name, **SHORT.get(name, {})})


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


@torch.no_grad()
def answers(model: nn.Module) -> dict[str, Tensor]:
    """What the network says of three pictures before boxes are chosen, so that no order of equal scores matters."""
    inner: Any = (model.get_base_model() if hasattr(model, "get_base_model") else model).eval()
    pixels = batch()[0]["pixels"]
    if not hasattr(inner, "spec"):
        found = inner(pixels)
        return {"logits": found.logits, "boxes": found.pred_boxes}
    maps = inner.backbone(pixels)
    if not hasattr(inner, "roi_heads"):
        return dict(inner.head(list(maps.values())))
    scores, offsets = inner.rpn.head(list(maps.values()))
    region = [torch.tensor([[2.0, 3.0, 40.0, 50.0]])] * len(pixels)
    heads = inner.roi_heads
    logits, boxes = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, region, [(SIDE, SIDE)] * len(pixels))))
    return {"scores": scores[0], "offsets": offsets[0], "logits": logits, "boxes": boxes}


def alike(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    for name, tensor in one.items():  # float32; adapters inside a kernel sum in another order
        torch.testing.assert_close(two[name], tensor, atol=1e-3, rtol=1e-3)


def apart(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return any(not torch.allclose(two[name], tensor, atol=1e-2, rtol=1e-2) for name, tensor in one.items())


@pytest.fixture(scope="module", params=params(WORKING))
def tuned(request: pytest.FixtureRequest, folder: Path) -> Tuned:
    name, kind = request.param
    method, pretrained = make(name), fresh(kind, folder)
    untouched = answers(pretrained.model)
    torch.manual_seed(11)
    model = method.prepare(pretrained)
    start, before = copied(method.learned(model)), copied(tensors_of(model))
    weights = {n: t for n, t in method.learned(model).items() if isinstance(t, nn.Parameter)}
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-2)
    missing = set(weights)
    inputs, targets = batch()
    for step in (1, 2, 3):
        method.training_mode(model)
        randomness.begin(7, step, range(len(targets)))
        detector_losses(model, inputs, targets).total.backward()
        method.after_backward(model, step, 3)
        missing -= {n for n, p in weights.items() if p.grad is not None}
        optimizer.step()
        method.after_step(model, step, 3)
        optimizer.zero_grad()
    return Tuned(method, pretrained, model, untouched, before, start, missing, answers(model))


def test_what_does_not_learn_stays_bit_for_bit_statistics_too(tuned: Tuned) -> None:
    learned, now = tuned.method.learned(tuned.model), tensors_of(tuned.model)
    assert not tuned.missing
    assert not {n for n, t in tuned.before.items() if n not in learned and not torch.equal(now[n], t)}
    assert apart(tuned.untouched, tuned.answers)
    for head in tuned.pretrained.anatomy.head:
        assert any(f".{head}." in f".{name}" for name, _ in tuned.model.named_parameters(remove_duplicate=False))


def test_switched_off_it_answers_as_the_untouched_one_bit_for_bit(tuned: Tuned) -> None:
    with tuned.method.switched_off(tuned.model, tuned.start):
        off = answers(tuned.model)
    assert all(torch.equal(off[name], tensor) for name, tensor in tuned.untouched.items())
    on = answers(tuned.model)
    assert all(torch.equal(on[name], tensor) for name, tensor in tuned.answers.items())


def test_what_is_delivered_answers_alike_when_its_library_reads_it(tuned: Tuned, tmp_path: Path) -> None:
    merged = tuned.method.merge(tuned.model).eval()
    alike(tuned.answers, answers(merged))
    write_whole(merged, tmp_path, tuned.pretrained)
    plain, _, _ = read_detector(tmp_path)
    whole, read = answers(merged), answers(plain)
    assert all(torch.equal(read[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("tuned", params([p for p in WORKING if p[0] in (*PEFT, *LINEAR)]), indirect=True)
def test_peft_puts_the_saved_adapter_onto_a_fresh_detector(tuned: Tuned, folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    tuned.method.save(tuned.model, tmp_path, tuned.pretrained)
    kind = next(k for k in DETECTORS if _read(k, folder).source == tuned.pretrained.source)
    base: Any = fresh(kind, folder).model
    base.get_input_embeddings = nn.Identity  # as docs/tasks/object_detection.md says
    read = answers(PeftModel.from_pretrained(base, str(tmp_path)))
    alike(tuned.answers, read)


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in TRIED else (pytest.mark.slow,)) for k in DETECTORS])
def test_every_method_works_or_says_why_not_and_what_does(kind: str, folder: Path) -> None:
    for name in registry.names():
        reason = CANNOT.get((name, kind))
        torch.manual_seed(11)
        if reason is None:
            model = make(name).prepare(fresh(kind, folder))
            assert make(name).learned(model), name
            continue
        with pytest.raises(ModelError, match=reason) as caught:
            make(name).prepare(_read(kind, folder))
        assert "full" in str(caught.value), name


@pytest.mark.parametrize("name", [*PEFT, "adapter", "last_blocks", "norm_tuning"])
@pytest.mark.slow
def test_a_detector_without_blocks_and_norms_says_so(name: str) -> None:
    found = load_detector(named("ssd300_vgg16"), LABELS, seed=1, pretrained=False)
    with pytest.raises(ModelError, match=r"blocks|no normalisation layer") as caught:
        make(name).prepare(found)
    assert "full" in str(caught.value)

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny_detectors import KINDS, LABELS, OVER, SIDE, batch, load_kind, named, over_backbone
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from tunesmith.models.detectors import detect, load_detector, read_detector, write_detector


@pytest.mark.parametrize("detector", OVER)
def test_a_plain_program_loads_what_was_written_and_sees_the_same(detector: str, tmp_path: Path) -> None:
    found = over_backbone(detector)
    _confident(found.model)
    inputs, _ = batch(whole=True)
    before = detect(found.model, inputs)
    write_detector(found.model, tmp_path, found)
    plain = runpy.run_path(str(tmp_path / "load.py"))["model"]
    assert "tunesmith" not in (tmp_path / "load.py").read_text(encoding="utf-8")
    with torch.no_grad():
        answers = plain([inputs["pixels"][0]])[0]
    count = min(len(answers["scores"]), 100)
    assert count > 0
    np.testing.assert_allclose(answers["scores"][:count].numpy(), before[0, :count, 4], rtol=1e-5)
    np.testing.assert_allclose(answers["boxes"][:count].numpy(), before[0, :count, :4], atol=1e-3)
    first = 1 if detector == "faster_rcnn" else 0
    assert (answers["labels"][:count].numpy() - first == before[0, :count, 5]).all()


@pytest.mark.parametrize("detector", OVER)
def test_what_is_read_back_answers_bit_for_bit(detector: str, tmp_path: Path) -> None:
    found = over_backbone(detector)
    _confident(found.model)
    inputs, _ = batch()
    before = detect(found.model, inputs)
    write_detector(found.model, tmp_path, found)
    model, form, labels = read_detector(tmp_path)
    assert (form, labels) == (found.processor, LABELS)
    assert np.array_equal(detect(model, inputs), before)
    assert not model.training


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_what_was_written(kind: str, tmp_path: Path) -> None:
    found = load_kind(kind, tmp_path / "old")
    inputs, _ = batch(whole=found.processor.squash)
    before = detect(found.model, inputs)
    write_detector(found.model, tmp_path / "new", found)
    model, form, labels = read_detector(tmp_path / "new")
    assert (form, labels) == (found.processor, LABELS)
    assert np.array_equal(detect(model, inputs), before)
    plain = AutoModelForObjectDetection.from_pretrained(tmp_path / "new").eval()
    processor: Any = AutoImageProcessor.from_pretrained(tmp_path / "new")
    assert plain.config.id2label == dict(enumerate(LABELS))
    pixels = processor(np.zeros((2 * SIDE, SIDE, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert max(pixels.shape[2:]) == SIDE


@pytest.mark.slow
@pytest.mark.parametrize(
    "builder", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn"]
)
def test_torchvisions_own_detectors_are_rebuilt_by_the_plain_program(builder: str, tmp_path: Path) -> None:
    size = None if builder.startswith("ssd") else 128
    found = load_detector(named(builder), LABELS, seed=1, size=size, pretrained=False)
    _confident(found.model)
    inputs, _ = batch(1, whole=True, side=found.processor.height)
    before = detect(found.model, inputs)
    write_detector(found.model, tmp_path, found)
    plain = runpy.run_path(str(tmp_path / "load.py"))["model"]
    with torch.no_grad():
        answers = plain([inputs["pixels"][0]])[0]
    count = min(len(answers["scores"]), 100)
    assert count > 0
    np.testing.assert_allclose(answers["scores"][:count].numpy(), before[0, :count, 4], rtol=1e-4)


def _confident(model: Any) -> None:
    """Take away the caution that a focal loss starts from, so that untrained detectors answer."""
    layer = getattr(getattr(getattr(model, "head", None), "classification_head", None), "cls_logits", None)
    if layer is not None:
        torch.nn.init.zeros_(layer.bias)

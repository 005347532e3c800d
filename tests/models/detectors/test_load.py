from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny_detectors import (
    BACKBONE,
    KINDS,
    LABELS,
    OVER,
    SIDE,
    batch,
    load_kind,
    named,
    over_backbone,
    transformers_folder,
)  # fmt: skip
from torchvision.ops import FrozenBatchNorm2d

from tunesmith.errors import ModelError
from tunesmith.models.detectors import (
    DetectorOptions,
    detect,
    find_parts,
    load_detector,
    locate_detector,
    read_detector,
    write_detector,
)  # fmt: skip
from tunesmith.models.detectors.build import build, freeze_norms, set_eps_of_coco
from tunesmith.models.detectors.pictures import boxes_of, image_list
from tunesmith.models.detectors.spec import Spec
from tunesmith.types import ModelSource


@pytest.mark.parametrize("name", [*OVER, *KINDS])
def test_parts_hold_every_parameter_once_and_the_head_is_among_them(name: str, tmp_path: Path) -> None:
    found = over_backbone(name) if name in OVER else load_kind(name, tmp_path)
    parts = find_parts(found.model)
    for parameter, _ in found.model.named_parameters():
        inside = [p for p in (*parts.backbone, *parts.neck, *parts.head) if f"{parameter}.".startswith(p + ".")]
        assert len(inside) == 1 or "class_embed" in parameter, (parameter, inside)
    assert found.anatomy.head
    names = {own for own, _ in found.model.named_modules()}
    assert names.issuperset((*found.anatomy.head, *found.anatomy.blocks, *found.anatomy.classifier))
    assert len(found.anatomy.blocks) >= 2
    assert all(any(b.startswith(p + ".") for p in parts.backbone) for b in found.anatomy.blocks)
    roles = {layer.role for layer in found.anatomy.layers if layer.kind == "conv"}
    assert "stem" in roles


def test_the_head_of_a_detector_over_a_classifier_is_all_that_no_file_brought(tmp_path: Path) -> None:
    backbone = _backbone_file(tmp_path)
    source = named("faster_rcnn")
    options = DetectorOptions(pyramid_channels=64, representation=32)
    found = load_detector(source, LABELS, seed=1, size=SIDE, backbone=backbone, options=options)
    assert found.anatomy.head == ("backbone.fpn", "rpn", "roi_heads")
    weights = torch.load(backbone.weights, weights_only=True)
    body: Any = found.model.backbone.body
    assert torch.equal(next(body.parameters()), next(iter(weights.values())))
    other = load_detector(source, LABELS, seed=2, size=SIDE, backbone=backbone, options=options)
    assert torch.equal(next(other.model.backbone.body.parameters()), next(body.parameters()))
    assert not torch.equal(other.model.rpn.head.cls_logits.weight, found.model.rpn.head.cls_logits.weight)


def test_two_loads_of_one_seed_are_the_same_and_leave_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    one, two = over_backbone("retinanet").model.state_dict(), over_backbone("retinanet").model.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), before)


def test_pictures_become_what_torchvisions_own_transform_makes_of_them() -> None:
    model: Any = over_backbone("faster_rcnn").model
    inputs, _ = batch()
    ours = image_list(model, inputs)
    pictures = [p[:, :h, :w] for p, (h, w) in zip(inputs["pixels"], inputs["sizes"].tolist(), strict=True)]
    theirs, _ = model.transform.eval()([pictures[0]])
    torch.testing.assert_close(ours.tensors[:1], theirs.tensors)
    assert (ours.tensors[1, :, :, SIDE - 16 :] == 0).all()
    assert ours.image_sizes == [(SIDE, SIDE), (SIDE, SIDE - 16), (SIDE, SIDE - 16)]


@pytest.mark.parametrize("name", [*OVER, *KINDS])
def test_detections_lie_inside_their_picture_best_first(name: str, tmp_path: Path) -> None:
    found = over_backbone(name) if name in OVER else load_kind(name, tmp_path)
    if hasattr(found.model, "score_thresh"):
        found.model.score_thresh = -1.0  # type: ignore[assignment]
    inputs, _ = batch(whole=found.processor.squash)
    seen = detect(found.model, inputs)
    assert seen.shape == (3, 100, 6)
    assert seen.dtype == np.float32
    for rows, (height, width) in zip(seen, inputs["sizes"].tolist(), strict=True):
        real = rows[rows[:, 4] >= 0]
        assert len(real)
        assert (np.diff(real[:, 4]) <= 0).all()
        assert (real[:, :4] >= 0).all()
        assert (real[:, [0, 2]] <= width).all()
        assert (real[:, [1, 3]] <= height).all()
        assert set(real[:, 5]) <= {0.0, 1.0, 2.0}
        assert (rows[len(real) :, 4] == -1).all()


def test_targets_count_from_the_detectors_first_class() -> None:
    _, targets = batch()
    found = boxes_of(targets, first_class=1)
    assert [len(own["boxes"]) for own in found] == [1, 0, 3]
    assert found[2]["labels"].tolist() == [3, 1, 2]


def test_frozen_norms_of_coco_weights_answer_as_torchvisions_without_eps() -> None:
    spec = Spec("fasterrcnn_mobilenet_v3_large_320_fpn", 64, ("__background__", "a"), (0.5,) * 3, (0.5,) * 3)
    model: Any = build(spec)
    norm = next(m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, norm.num_features, 4, 4)
    wanted = (x - norm.running_mean[:, None, None]) / norm.running_var[:, None, None].sqrt()
    set_eps_of_coco(model)
    freeze_norms(model)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.backbone.modules())
    frozen = next(m for m in model.backbone.modules() if isinstance(m, FrozenBatchNorm2d))
    torch.testing.assert_close(frozen(x), wanted)


def test_a_detector_as_transformers_4_wrote_it_is_read_without_the_hub(tmp_path: Path) -> None:
    told = {"model_type": "detr", "backbone": "resnet18", "use_timm_backbone": True, "use_pretrained_backbone": True,
            "backbone_kwargs": {"in_chans": 3, "out_indices": [1, 2, 3, 4]}, "d_model": 32, "encoder_layers": 1,
            "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32, "num_queries": 5}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(told), encoding="utf-8")
    found = load_detector(ModelSource("detr", str(tmp_path)), LABELS, seed=1, size=SIDE, pretrained=False)
    assert found.model.config.backbone_config.backbone == "resnet18"


def test_a_transformers_detector_without_its_weights_is_drawn_from_the_seed(tmp_path: Path) -> None:
    one = load_kind("detr", tmp_path, pretrained=False)
    two = load_detector(ModelSource("detr", str(tmp_path)), LABELS, seed=1, size=SIDE, pretrained=False)
    assert torch.equal(next(one.model.parameters()), next(two.model.parameters()))
    assert "class_labels_classifier" in one.anatomy.head


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("torchvision/fasterrcnn_resnet51_fpn", {}, "Did you mean"),
        ("torchvision/faster_rcnn", {"revision": "main"}, "revision"),
        ("torchvision/ssd300_vgg16", {"weights": "absent.pth"}, "no weight file"),
    ],
)
def test_a_wrong_name_is_told_with_what_to_write(name: str, more: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        locate_detector(name, **more)


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        (named("faster_rcnn"), {}, "name it as the backbone"),
        (named("ssd300_vgg16"), {"size": 512}, "leave size out"),
        (named("retinanet_resnet50_fpn"), {"backbone": BACKBONE}, "go unused"),
        (named("retinanet_resnet50_fpn"), {"options": DetectorOptions()}, "Leave them out"),
        (ModelSource("torchvision/resnet18", "", library="torchvision", architecture="resnet18"), {}, "one of timm's"),
        (named("fcos"), {"backbone": ModelSource("x", "", library="torchvision", architecture="resnet18")}, "timm"),
        (BACKBONE, {"options": DetectorOptions(detector="faster_rnn")}, "Did you mean"),
        (BACKBONE, {"options": DetectorOptions(pyramid_channels=100)}, "multiple of 32"),
        (ModelSource("v", "timm/test_vit", library="timm", architecture="test_vit"), {}, "strides"),
    ],
)
def test_what_cannot_be_built_is_told_with_what_to_do(source: ModelSource, more: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        load_detector(source, LABELS, seed=1, **more)


def test_a_text_model_is_no_detector(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(ModelError, match="not a detector"):
        load_detector(ModelSource("b", str(tmp_path)), LABELS, seed=1)


def _backbone_file(folder: Path) -> ModelSource:
    import timm

    torch.manual_seed(9)
    torch.save(timm.create_model("test_resnet").state_dict(), folder / "classifier.pth")
    return ModelSource("timm/test_resnet", "timm/test_resnet", library="timm", architecture="test_resnet",
                       weights=str(folder / "classifier.pth"))  # fmt: skip


def test_an_adapter_beside_a_detector_is_refused_before_its_pickle_is_looked_at(tmp_path: Path) -> None:
    folder = transformers_folder("yolos", tmp_path)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x"}')
    (folder / "adapter_model.bin").write_bytes(b"pickle")
    for read in (read_detector, lambda place: load_detector(ModelSource("y", str(place)), LABELS, seed=0)):
        with pytest.raises(ModelError, match="holds an adapter"):
            read(folder)


@pytest.mark.parametrize(
    "told",
    [
        {"num_hidden_layers": 10**9},
        {"hidden_size": 10**6},
        {"num_detection_tokens": 10**12},
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"id2label": [1, 2]},
        {"transformers_weights": "x.bin"},
    ],
    ids=str,
)
def test_a_detector_whose_config_lies_is_a_fault_in_words(told: dict[str, Any], tmp_path: Path) -> None:
    folder = transformers_folder("yolos", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | told))
    for read in (read_detector, lambda place: load_detector(ModelSource("y", str(place)), LABELS, seed=0)):
        with pytest.raises(ModelError):
            read(folder)


@pytest.mark.parametrize(
    "told",
    [
        {"builder": "get_model"},
        {"builder": None},
        {"builder": "fasterrcnn_resnet50_fpn", "arguments": {"pretrained": True}},
        {"backbone": "hf-hub:somebody/net"},
        {"pyramid": "wide"},
        {"categories": 3},
        {"size": None},
        {"arguments": [1]},
    ],
    ids=str,
)
def test_a_delivered_detector_whose_config_lies_is_a_fault_in_words(told: dict[str, Any], tmp_path: Path) -> None:
    found = over_backbone("fcos")
    write_detector(found.model, tmp_path, found)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | told))
    with pytest.raises(ModelError):
        read_detector(tmp_path)

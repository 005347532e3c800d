from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_detectors import KINDS, OVER, load_kind, named, over_backbone
from transformers import AutoModelForObjectDetection

from tunesmith.models.detectors import load_detector, locate_detector, write_detector
from tunesmith.models.detectors.build import build
from tunesmith.models.detectors.classes import fit_classes
from tunesmith.models.detectors.spec import Spec, categories_of

BEFORE = ("white cell", "dog", "platelet")
NEW = ("platelet", "red cell", "white cell")


def class_rows(model: Any, label: int) -> torch.Tensor:
    """All class weights of one label, whatever the family."""
    if hasattr(model, "roi_heads"):
        predictor = model.roi_heads.box_predictor
        boxes = predictor.bbox_pred.weight.unflatten(0, (-1, 4))[label + 1].flatten()
        return torch.cat([predictor.cls_score.weight[label + 1], boxes])
    layers = model.head.classification_head
    convs = [layers.cls_logits] if hasattr(layers, "cls_logits") else list(layers.module_list)
    convs = [conv[-1] if isinstance(conv, torch.nn.Sequential) else conv for conv in convs]
    first = 0 if hasattr(layers, "cls_logits") else 1
    classes = layers.num_classes if first == 0 else layers.num_columns
    return torch.cat([conv.weight.unflatten(0, (-1, classes))[:, label + first].flatten() for conv in convs])


@pytest.mark.parametrize("detector", OVER)
def test_classes_that_a_delivered_detector_knows_keep_their_rows(detector: str, tmp_path: Path) -> None:
    old = over_backbone(detector, BEFORE)
    write_detector(old.model, tmp_path, old)
    new = load_detector(locate_detector(str(tmp_path)), NEW, seed=4)
    assert torch.equal(class_rows(new.model, 0), class_rows(old.model, 2))
    assert torch.equal(class_rows(new.model, 2), class_rows(old.model, 0))
    assert not torch.equal(class_rows(new.model, 1), class_rows(old.model, 1))
    again = load_detector(locate_detector(str(tmp_path)), NEW, seed=4)
    other = load_detector(locate_detector(str(tmp_path)), NEW, seed=5)
    assert torch.equal(class_rows(new.model, 1), class_rows(again.model, 1))
    assert not torch.equal(class_rows(new.model, 1), class_rows(other.model, 1))
    assert new.anatomy.classifier == new.anatomy.head
    backbone = dict(old.model.backbone.named_parameters())
    assert all(torch.equal(p, backbone[name]) for name, p in new.model.backbone.named_parameters())


def test_the_row_of_the_background_is_kept_too() -> None:
    old = over_backbone("faster_rcnn", BEFORE).model
    row = old.roi_heads.box_predictor.cls_score.weight[0].clone()
    spec: Any = old.spec
    fit_classes(old, Spec(**{**{n: getattr(spec, n) for n in Spec.__dataclass_fields__},
                             "categories": categories_of("faster_rcnn", ("cat",))}), spec.categories, 1)  # fmt: skip
    assert torch.equal(old.roi_heads.box_predictor.cls_score.weight[0], row)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_class_rows_go_by_name(kind: str, tmp_path: Path) -> None:
    model: Any = load_kind(kind, tmp_path, NEW).model
    old = AutoModelForObjectDetection.from_pretrained(tmp_path).state_dict()
    state, seen = model.state_dict(), 0
    for name, before in old.items():
        now = state[name]
        if now.shape == before.shape and not any(part in name for part in ("class", "score_head")):
            assert torch.equal(now, before), name
        elif before.dim() == 2 and before.shape[0] in (len(BEFORE), len(BEFORE) + 1):
            seen += 1
            assert torch.equal(now[0], before[2]), name
            assert torch.equal(now[2], before[0]), name
            assert not torch.equal(now[1], before[1]), name
            if before.shape[0] > len(BEFORE):  # no object, or no class
                assert torch.equal(now[-1], before[-1]), name
    assert seen >= 1
    assert model.config.id2label == dict(enumerate(NEW))


def test_the_same_classes_in_the_same_order_leave_a_transformers_detector_as_it_was(tmp_path: Path) -> None:
    found = load_kind("rt_detr", tmp_path, BEFORE)
    state, old = found.model.state_dict(), AutoModelForObjectDetection.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in old.items())
    assert "model.enc_score_head" in found.anatomy.head


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_torchvisions_coco_weights_keep_the_rows_of_known_names(builder: str, tmp_path: Path) -> None:
    from torchvision.models import get_model_weights

    coco = list(get_model_weights(builder).DEFAULT.meta["categories"])
    drawn = build(Spec(builder, 320, tuple(coco), (0.5,) * 3, (0.5,) * 3))
    torch.save(drawn.state_dict(), tmp_path / "weights.pth")
    found = load_detector(named(builder, str(tmp_path / "weights.pth")), ["bus", "unicorn", "person"], seed=1)
    assert torch.equal(class_rows(found.model, 0), class_rows(drawn, coco.index("bus") - 1))
    assert torch.equal(class_rows(found.model, 2), class_rows(drawn, coco.index("person") - 1))


def test_a_delivered_config_says_what_each_row_means(tmp_path: Path) -> None:
    found = over_backbone("faster_rcnn")
    write_detector(found.model, tmp_path, found)
    told = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert told["categories"] == ["__background__", *NEW]
    assert told["backbone"] == "test_resnet"

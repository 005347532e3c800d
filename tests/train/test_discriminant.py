"""A head in closed form: it is the discriminant that others fit, as sure of itself as held-out examples allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from tests.pictures_models import tiny_vision
from torch import nn

from tunesmith.train import discriminant as module
from tunesmith.train.discriminant import cannot_start, discriminant
from tunesmith.types import Pretrained

COUNTS = {"class 0": 5, "class 1": 5, "class 2": 5}


def drawn(each: int, width: int, *, classes: int = 3, seed: int = 0, apart: float = 1.5, offset: float = 0.0) -> Any:
    """Features of classes whose means differ in the first values, with a covariance that they share."""
    draw = np.random.default_rng(seed)
    mixed = np.random.default_rng(99).normal(size=(width, width)) / width**0.5
    targets = np.repeat(np.arange(classes), each)
    features = apart * np.eye(classes, width)[targets] + draw.normal(size=(len(targets), width)) @ mixed + offset
    return features.astype(np.float32), targets


def losses(weights: torch.Tensor, offsets: torch.Tensor, features: Any, targets: Any) -> tuple[float, float]:
    logits = torch.from_numpy(features) @ weights.T + offsets
    wanted = torch.from_numpy(targets)
    return float(nn.functional.cross_entropy(logits, wanted)), float((logits.argmax(1) == wanted).float().mean())


@pytest.mark.parametrize(("each", "width", "classes"), [(40, 12, 3), (6, 60, 3), (30, 8, 2)])
def test_it_parts_the_classes_as_the_shrunk_discriminant_does(each: int, width: int, classes: int) -> None:
    features, targets = drawn(each, width, classes=classes)
    found = discriminant(features, targets, np.full(classes, each))
    assert found is not None
    share = module._shrinkage(
        torch.from_numpy(features - features.mean(0)).double(), torch.from_numpy(targets), classes
    )
    left = features - np.stack([features[targets == k].mean(0) for k in range(classes)])[targets]
    assert share == pytest.approx(ledoit_wolf_shrinkage(left.astype(np.float64), assume_centered=True), rel=1e-4)
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=share).fit(features.astype(np.float64), targets)
    logits = (torch.from_numpy(features) @ found[0].T + found[1]).double().numpy()
    told = peer.decision_function(features.astype(np.float64))
    ours = logits[:, 1] - logits[:, 0] if classes == 2 else logits - logits.mean(1, keepdims=True)
    theirs = told if classes == 2 else told - told.mean(1, keepdims=True)
    factor = float((ours * theirs).sum() / (theirs * theirs).sum())
    assert ours == pytest.approx(factor * theirs, abs=2e-3 * abs(ours).max())
    assert min(abs(factor / one - 1) for one in module.FACTORS) < 1e-3


def test_it_is_no_surer_than_held_out_examples_allow() -> None:
    features, targets = drawn(10, 80, apart=3.0)
    new, wanted = drawn(400, 80, apart=3.0, seed=1)
    weights, offsets = discriminant(features, targets, np.ones(3)) or (torch.empty(0), torch.empty(0))
    loss, right = losses(weights, offsets, new, wanted)
    assert right > 0.8
    assert loss < min(losses(weights * f, offsets * f, new, wanted)[0] for f in (0.2, 5.0, 25.0))


def test_rare_classes_are_expected_as_rarely_as_they_come() -> None:
    features, targets = drawn(30, 6)
    even = discriminant(features, targets, np.ones(3))
    rare = discriminant(features, targets, np.array([98.0, 1.0, 1.0]))
    assert even is not None
    assert rare is not None
    assert torch.equal(even[0], rare[0])
    assert (rare[1] - even[1]).tolist() == pytest.approx(np.log([2.94, 0.03, 0.03]).tolist(), abs=1e-4)


def test_a_class_that_counts_nothing_is_never_expected() -> None:
    features, targets = drawn(30, 6)
    found = discriminant(features, targets, np.array([1.0, 0.0, 1.0]))
    assert found is not None
    assert all(bool(torch.isfinite(each).all()) for each in found)
    assert losses(*found, features, np.where(targets == 1, 0, targets))[1] > 0.6


def test_far_from_zero_it_answers_alike() -> None:
    near, targets = drawn(30, 12)
    far, _ = drawn(30, 12, offset=300.0)
    one, two = (discriminant(f, targets, np.ones(3)) for f in (near, far))
    assert one is not None
    assert two is not None
    at = [torch.from_numpy(f).double() @ w[0].double().T + w[1] for f, w in ((near, one), (far, two))]
    assert (at[0] - at[1]).abs().max() < 0.02


def test_features_that_say_nothing_give_none() -> None:
    features, targets = drawn(4, 5)
    assert discriminant(np.eye(3, 5, dtype=np.float32)[targets], targets, np.ones(3)) is None
    features[2, 1] = np.nan
    assert discriminant(features, targets, np.ones(3)) is None


def test_a_new_linear_head_over_pictures_can_start_and_is_left_as_it_was() -> None:
    for kind in ("timm_resnet", "torchvision_resnet", "hf_resnet", "timm_vit", "hf_vit", "hf_dinov2"):
        pretrained = tiny_vision(kind)
        pretrained.model.train()
        kept = {name: tensor.clone() for name, tensor in pretrained.model.state_dict().items()}
        assert cannot_start(pretrained, COUNTS, multi_label=False) == "", kind
        assert all(m.training for m in pretrained.model.modules())
        assert all(torch.equal(kept[n], t) for n, t in pretrained.model.state_dict().items())


def test_what_forbids_it_is_told(tiny: Callable[..., Pretrained], monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny_vision("timm_resnet")
    assert "picture classifier" in cannot_start(tiny("bert"), COUNTS, multi_label=False)
    assert "several labels" in cannot_start(net, COUNTS, multi_label=True)
    known = replace(net.anatomy, classifier=())
    assert "knows every label" in cannot_start(replace(net, anatomy=known), COUNTS, multi_label=False)
    assert '"class 1" has fewer than 2' in cannot_start(net, COUNTS | {"class 1": 1}, multi_label=False)
    deep = replace(net.anatomy, head=(*net.anatomy.head, "layer4"))
    assert "one linear layer" in cannot_start(replace(net, anatomy=deep), COUNTS, multi_label=False)
    monkeypatch.setattr(module, "WIDEST", 8)
    assert "too long" in cannot_start(net, COUNTS, multi_label=False)
    monkeypatch.setattr(module, "WIDEST", 4096)
    monkeypatch.setattr(module, "entering", lambda *_: None)
    assert "does not run once" in cannot_start(net, COUNTS, multi_label=False)

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


def start(features: Any, targets: Any, counts: Any = (1.0, 1.0, 1.0)) -> tuple[torch.Tensor, torch.Tensor]:
    found = discriminant(features, targets, np.array(counts), alone=True)
    assert found is not None
    return found


def losses(weights: torch.Tensor, offsets: torch.Tensor, features: Any, targets: Any) -> tuple[float, float]:
    logits = torch.from_numpy(features) @ weights.T + offsets
    wanted = torch.from_numpy(targets)
    return float(nn.functional.cross_entropy(logits, wanted)), float((logits.argmax(1) == wanted).float().mean())


@pytest.mark.parametrize(("each", "width", "classes"), [(40, 12, 3), (6, 60, 3), (30, 8, 2)])
def test_it_parts_the_classes_as_the_shrunk_discriminant_does(each: int, width: int, classes: int) -> None:
    features, targets = drawn(each, width, classes=classes)
    found = discriminant(features, targets, np.full(classes, each), alone=True)
    assert found is not None
    share = module._shrinkage(
        torch.from_numpy(features - features.mean(0)).double(), torch.from_numpy(targets), classes
    )
    left = features - np.stack([features[targets == k].mean(0) for k in range(classes)])[targets]
    assert share == pytest.approx(ledoit_wolf_shrinkage(left.astype(np.float64), assume_centered=True), rel=1e-4)
    logits = (torch.from_numpy(features) @ found[0].T + found[1]).double().numpy()
    ours = logits[:, 1] - logits[:, 0] if classes == 2 else logits - logits.mean(1, keepdims=True)
    alike = []
    for tried in (share, *(one for one in module.SHARES if one > share)):
        peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=tried).fit(features.astype(np.float64), targets)
        told = peer.decision_function(features.astype(np.float64))
        theirs = told if classes == 2 else told - told.mean(1, keepdims=True)
        factor = float((ours * theirs).sum() / (theirs * theirs).sum())
        known = min(abs(factor / one - 1) for one in module.FACTORS) < 1e-3
        alike.append(known and np.allclose(ours, factor * theirs, rtol=0, atol=2e-3 * abs(ours).max()))
    assert sum(alike) == 1


def test_the_covariance_is_drawn_on_while_held_out_examples_grow_likelier() -> None:
    """Of few examples the directions between features are not to be trusted; of many they are."""
    new, wanted = drawn(400, 80, apart=2.0, seed=1)
    for each, drawn_on in ((6, True), (400, False)):
        features, targets = drawn(each, 80, apart=2.0)
        x = torch.from_numpy(features - features.mean(0)).double()
        y = torch.from_numpy(targets)
        least = module._shrinkage(x, y, 3)
        assert least is not None
        losses_of = [module._held_out(x, y, 3, share)[0] for share in (least, *module.SHARES)]
        assert (losses_of.index(min(losses_of)) > 0) is drawn_on
        found = discriminant(features, targets, np.ones(3), alone=True)
        assert found is not None
        plain, plain_offsets = module._fitted(x, y, 3, least)
        factor = module._held_out(x, y, 3, least)[1]
        at_least = losses((plain * factor).float(), (plain_offsets * factor).float(), new - features.mean(0), wanted)
        assert losses(*found, new, wanted)[0] <= 1.02 * at_least[0]


@pytest.mark.parametrize("share", [0.01, 0.6])
def test_fewer_examples_than_features_take_the_shorter_way_to_the_same(share: float) -> None:
    features, targets = drawn(10, 80)
    x, y = torch.from_numpy(features - features.mean(0)).double(), torch.from_numpy(targets)
    weights, _ = module._fitted(x, y, 3, share)
    means = module._means(x, y, 3)
    left = x - means[y]
    common = (1 - share) * left.T @ left / len(x)
    common += (share + 1e-9) * float(left.square().mean()) * torch.eye(80, dtype=torch.double)
    assert torch.allclose(weights, torch.linalg.solve(common, means.T).T, rtol=1e-6, atol=1e-9)


def test_beside_what_learns_a_head_of_few_examples_does_not_know_them_by_heart() -> None:
    for each, tempered in ((6, True), (400, False)):
        features, targets = drawn(each, 80, apart=2.0)
        alone, beside = (discriminant(features, targets, np.ones(3), alone=alone) for alone in (True, False))
        assert alone is not None
        assert beside is not None
        own, its = losses(*alone, features, targets), losses(*beside, features, targets)
        assert own[1] == its[1]
        assert (its[0] > 2 * own[0]) is tempered
        assert tempered or torch.equal(alone[0], beside[0])


def test_it_is_no_surer_than_held_out_examples_allow() -> None:
    features, targets = drawn(10, 80, apart=3.0)
    new, wanted = drawn(400, 80, apart=3.0, seed=1)
    weights, offsets = start(features, targets)
    loss, right = losses(weights, offsets, new, wanted)
    assert right > 0.8
    assert loss < min(losses(weights * f, offsets * f, new, wanted)[0] for f in (0.2, 5.0, 25.0))


def test_rare_classes_are_expected_as_rarely_as_they_come() -> None:
    features, targets = drawn(30, 6)
    even = discriminant(features, targets, np.ones(3), alone=True)
    rare = discriminant(features, targets, np.array([98.0, 1.0, 1.0]), alone=True)
    assert even is not None
    assert rare is not None
    assert torch.equal(even[0], rare[0])
    assert (rare[1] - even[1]).tolist() == pytest.approx(np.log([2.94, 0.03, 0.03]).tolist(), abs=1e-4)


def test_a_class_that_counts_nothing_is_never_expected() -> None:
    features, targets = drawn(30, 6)
    found = start(features, targets, np.array([1.0, 0.0, 1.0]))
    assert all(bool(torch.isfinite(each).all()) for each in found)
    assert losses(*found, features, np.where(targets == 1, 0, targets))[1] > 0.6


@pytest.mark.parametrize("each", [2, 3])
def test_examples_that_are_alone_or_all_alike_stand_in_no_ones_way(each: int) -> None:
    features, targets = drawn(each, 20, apart=4.0)
    assert losses(*start(features, targets), features, targets)[1] == 1.0
    features[targets > 0] = np.eye(3, 20, dtype=np.float32)[targets[targets > 0]]
    assert all(bool(torch.isfinite(one).all()) for one in start(features, targets))


def test_far_from_zero_it_answers_alike() -> None:
    near, targets = drawn(30, 12)
    far, _ = drawn(30, 12, offset=300.0)
    one, two = (start(f, targets) for f in (near, far))
    at = [torch.from_numpy(f).double() @ w[0].double().T + w[1] for f, w in ((near, one), (far, two))]
    assert (at[0] - at[1]).abs().max() < 0.02


def test_features_that_say_nothing_give_none() -> None:
    features, targets = drawn(4, 5)
    assert discriminant(np.eye(3, 5, dtype=np.float32)[targets], targets, np.ones(3), alone=True) is None
    features[2, 1] = np.nan
    assert discriminant(features, targets, np.ones(3), alone=True) is None


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
    assert "knows most labels" in cannot_start(replace(net, anatomy=known), COUNTS, multi_label=False)
    assert "knows most labels" in cannot_start(replace(net, known=("class 0", "class 1")), COUNTS, multi_label=False)
    assert cannot_start(replace(net, known=("class 0",)), COUNTS, multi_label=False) == ""
    assert '"class 1" has fewer than 2' in cannot_start(net, COUNTS | {"class 1": 1}, multi_label=False)
    deep = replace(net.anatomy, head=(*net.anatomy.head, "layer4"))
    assert "one linear layer" in cannot_start(replace(net, anatomy=deep), COUNTS, multi_label=False)
    monkeypatch.setattr(module, "WIDEST", 8)
    assert "too long" in cannot_start(net, COUNTS, multi_label=False)
    monkeypatch.setattr(module, "WIDEST", 4096)
    monkeypatch.setattr(module, "entering", lambda *_: None)
    assert "does not run once" in cannot_start(net, COUNTS, multi_label=False)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.linear_model  # noqa: F401  its import takes a second: here, and not inside a test
import torch

from tunesmith.models.pooling import card_pooling, fit_pooler, probe_pooling


def write_card(folder: Path, config: object, name: str = "1_Pooling") -> Path:
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
        ({"pooling_mode_lasttoken": True}, None),
        ([], None),
        ("{broken", None),
    ],
)
def test_the_card_names_the_pooling_or_nothing(tmp_path: Path, config: object, expected: str | None):
    assert card_pooling(write_card(tmp_path, config)) == expected


def test_a_folder_without_a_card_names_no_pooling(tmp_path: Path):
    assert card_pooling(tmp_path) is None


@pytest.mark.parametrize(("path", "expected"), [("2_Pool", "cls"), ("../2_Pool", "mean")])
def test_modules_json_says_where_the_pooling_lies_inside_the_folder(tmp_path: Path, path: str, expected: str):
    write_card(write_card(tmp_path, {"pooling_mode_cls_token": True}, "2_Pool"), {"pooling_mode_mean_tokens": True})
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Pooling", "path": path}]))
    assert card_pooling(tmp_path) == expected


@pytest.mark.parametrize("better", ["cls", "mean"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_probe_prefers_the_states_that_tell_the_classes_apart(better: str, multi_label: bool):
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 400)
    noise = random.normal(size=(400, 16))
    telling = noise + np.eye(3, 16)[targets] * 3
    states = {"cls": noise, "mean": noise, better: telling}
    answers = np.eye(3)[targets] if multi_label else targets
    assert probe_pooling(states["cls"], states["mean"], answers) == better
    assert probe_pooling(states["cls"], states["mean"], answers) == better


def test_the_probe_answers_mean_where_nothing_can_be_measured():
    states = np.ones((5, 4))
    assert probe_pooling(states, states, np.zeros(5, dtype=int)) == "mean"
    assert probe_pooling(states, states, np.array([0, 1, 2, 3, 3])) == "mean"


def test_the_probe_passes_over_classes_of_one_example():
    random = np.random.default_rng(1)
    targets = np.array([0] * 20 + [1] * 20 + [2])
    telling = random.normal(size=(41, 4)) + targets[:, None] * 3
    assert probe_pooling(telling, random.normal(size=(41, 4)), targets) == "cls"


def test_a_fitted_pooler_follows_the_mean_vector_on_texts_it_has_not_seen():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(600, 24, generator=generator) * 0.4 + 1.0
    means = states @ torch.randn(24, 24, generator=generator) * 0.02 - 3.0
    weight, bias = fit_pooler(states[:300], means[:300])
    pooled = states[300:] @ weight.T + bias
    target = (means[300:] - means[:300].mean(0)) / (means[:300] - means[:300].mean(0)).std()
    assert weight.dtype == bias.dtype == torch.float32
    correlation = torch.corrcoef(torch.stack([pooled.flatten(), target.flatten()]))[0, 1]
    assert correlation > 0.99
    assert 0.75 < pooled.std() < 1.0  # the target's deviation is 1, and a penalty of 0.2 shrinks by about 1 / 1.2


def test_a_fitted_pooler_solves_the_ridge_equation():
    """Against the same problem written as least squares on rows appended to the data."""
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(9, 12, generator=generator, dtype=torch.float64)
    means = torch.randn(9, 12, generator=generator, dtype=torch.float64)
    weight, bias = fit_pooler(states, means)
    x, t = states - states.mean(0), means - means.mean(0)
    penalty = 0.2 * x.square().sum() / 12
    rows = torch.cat([x, penalty.sqrt() * torch.eye(12, dtype=torch.float64)])
    wanted = torch.linalg.lstsq(rows, torch.cat([t / t.std(), torch.zeros(12, 12, dtype=torch.float64)])).solution.T
    torch.testing.assert_close(weight, wanted)
    torch.testing.assert_close(bias, -wanted @ states.mean(0))


def test_a_pooler_can_be_fitted_on_fewer_texts_than_features_and_on_constant_ones():
    for states in (torch.randn(3, 8), torch.ones(3, 8)):
        weight, bias = fit_pooler(states, states)
        assert torch.isfinite(weight).all()
        assert torch.isfinite(bias).all()


def test_a_pooler_is_not_fitted_on_one_text():
    with pytest.raises(ValueError, match="two or more"):
        fit_pooler(torch.ones(1, 8), torch.ones(1, 8))

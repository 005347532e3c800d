"""The range test suggests a rate that learns, sees where the loss breaks away, and touches nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.run.pictures import picture_recipe
from tests.run.worker import recipe, write_reviews

from tunesmith.errors import NotFiniteError, RecipeError
from tunesmith.events import Stage, Step
from tunesmith.recipe.recipe import Recipe
from tunesmith.run import lr_find as finding
from tunesmith.run.lr_find import has_diverged, lr_find, read_off
from tunesmith.train.device import Device
from tunesmith.train.schedule import RANGE, rate_factor

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(tiny_folders: Callable[[str], Path], tmp_path: Path) -> Settings:
    data = write_reviews(tmp_path / "reviews.csv", rows=200)
    return lambda **changes: recipe(tiny_folders("bert"), data, **changes)


def curve(rates: np.ndarray, best: float) -> np.ndarray:
    """A loss that falls around a tenth of `best`, is lowest there, and explodes above."""
    place = np.log10(rates / best)
    return 0.2 + 0.5 / (1 + np.exp(4 * (place + 1))) + 0.02 * np.exp(2.5 * place)


def test_the_rate_of_the_lowest_loss_is_divided_by_ten() -> None:
    rates = np.logspace(-6, 0, 120)
    noise = np.random.default_rng(0).normal(0, 0.01, 120)
    for best in (1e-3, 1e-2):
        found = read_off(rates.tolist(), (curve(rates, best) + noise).tolist())
        true = float(rates[curve(rates, best).argmin()])
        assert true / 2 < found["lowest"] < true * 2
        assert found["suggested"] == pytest.approx(found["lowest"] / 10)
        assert 0.02 * best < found["steepest"] < found["lowest"]


def test_a_loss_that_never_falls_gives_no_rate() -> None:
    rates = np.logspace(-6, 0, 100).tolist()
    assert read_off(rates, [0.69] * 100)["suggested"] is None
    assert read_off(rates, np.linspace(0.69, 3, 100).tolist())["suggested"] is None
    wavering = 0.69 + np.random.default_rng(1).normal(0, 0.1, 100)
    assert read_off(rates, wavering.tolist())["suggested"] is None


def test_divergence_is_seen_and_noise_is_not() -> None:
    draw = np.random.default_rng(0)
    calm = (0.7 - 0.3 * np.linspace(0, 1, 80) + draw.normal(0, 0.05, 80)).tolist()
    assert not any(has_diverged(calm[:n]) for n in range(1, 81))
    assert has_diverged([*calm, 1.0, 2.0, 4.0, 8.0, 16.0])


@pytest.mark.parametrize("kind", ["flat", "skewed"])
def test_ordinary_noise_is_seldom_taken_for_divergence(kind: str) -> None:
    """Losses that stay as they are: the old bound broke 24 % and 61 % of such tests off."""
    draw = np.random.default_rng(2)
    broken = 0
    for _ in range(100):
        if kind == "flat":
            losses = draw.normal(0.3, 0.15, 100).tolist()
        else:
            losses = (0.05 * np.exp(draw.normal(size=100) - 0.5)).tolist()
        broken += any(has_diverged(losses[:n]) for n in range(1, 101))
    assert broken <= 4


@pytest.mark.parametrize(("steps", "latest"), [(20, 20), (100, 86)])
def test_a_loss_that_breaks_away_is_seen_within_a_few_steps(steps: int, latest: int) -> None:
    """It has doubled from its start on at step 17 of 20, and at step 82 of 100."""
    rates, draw = np.logspace(-6, 0, steps), np.random.default_rng(3)
    for _ in range(20):
        losses = (curve(rates, 1e-3) + draw.normal(0, 0.05, steps)).tolist()
        assert not has_diverged(losses[: round(0.75 * steps)])
        assert has_diverged(losses[:latest])


@pytest.mark.parametrize("steps", [20, 40, 100])
def test_pure_noise_seldom_gets_a_rate(steps: int) -> None:
    draw, rates = np.random.default_rng(4), np.logspace(-6, 0, steps).tolist()
    found = [read_off(rates, draw.normal(0.69, 0.1, steps).tolist())["suggested"] for _ in range(300)]
    assert sum(rate is not None for rate in found) <= 18  # 6 %; some 2 % to 4 % are to be expected


def test_the_rate_rises_by_the_same_factor_every_step() -> None:
    factors = [rate_factor(step, 51, schedule="exponential", warmup=0.3) for step in range(1, 52)]
    assert factors[0] == pytest.approx(1 / RANGE)
    assert factors[-1] == 1.0
    assert np.allclose(np.diff(np.log(factors)), np.log(RANGE) / 50)


def test_a_head_gets_a_sane_rate_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head alone is a convex problem."""
    monkeypatch.chdir(tmp_path)
    seen: list[Any] = []
    given = Recipe.make(picture_recipe(tmp_path, method="head", train={"learning_rate": 1e-3}))
    found = lr_find(given, steps=60, on_event=seen.append)
    assert found.suggested is not None
    assert 3e-4 <= found.suggested <= 3e-2
    assert found.head_ratio == 1.0
    assert any(isinstance(event, Stage) and "at random values" in event.text for event in seen)
    assert sum(isinstance(event, Step) for event in seen) == len(found.rates)
    assert found.rates[0] == pytest.approx(1e-3 * finding.ABOVE / RANGE)
    told = json.loads((found.folder / "lr_find.json").read_text(encoding="utf-8"))
    assert told["suggested"] == found.suggested
    page = (found.folder / "lr_find.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "<script" not in page
    assert "http://" not in page
    assert f"{found.suggested:.1e}" in page
    assert not (tmp_path / "runs").exists()
    again = lr_find(given, steps=60)
    assert again.folder != found.folder
    assert again.losses == found.losses


def test_all_rates_rise_in_the_recipes_ratio(settings: Settings, tmp_path: Path) -> None:
    rates = {"learning_rate": 1e-4, "head_learning_rate": 4e-4}
    found = lr_find(Recipe.make(settings(method="full", train=rates)), steps=24, folder=tmp_path / "out")
    assert found.head_ratio == pytest.approx(4.0)
    if found.suggested is not None:
        assert f"train.head_learning_rate={found.suggested * 4:.1e}" in "\n".join(found.lines())


def test_a_loss_that_is_no_number_ends_the_test_well(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(*given: Any, **named: Any) -> Iterator[Step]:
        for step in range(1, 31):
            yield Step(step, 0.0, 1.0 if step < 12 else 12 / step, 1e-3, 1.0, 8, 80, 0.01)
        raise NotFiniteError("step 31: loss nan")

    monkeypatch.setattr(finding, "train", breaking)
    found = lr_find(Recipe.make(settings()), steps=40, folder=tmp_path / "out")
    assert found.diverged
    assert len(found.rates) == 30
    assert found.suggested is not None


def test_of_several_processes_the_first_alone_makes_the_folder(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Path("lr-find") / "text_classification-lora-1"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Device, "is_main", property(lambda device: False))
    monkeypatch.setattr(Device, "agree", lambda device, value: first if value is None else value)
    assert lr_find(Recipe.make(settings()), steps=20).folder == first
    assert not Path("lr-find").exists()


def test_too_few_steps_are_refused(settings: Settings) -> None:
    with pytest.raises(RecipeError, match="at least 20"):
        lr_find(Recipe.make(settings()), steps=5)

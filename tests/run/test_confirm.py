"""The winner against the default on new seeds: what may be said, and what may not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tunesmith.recipe.recipe import Recipe
from tunesmith.run.search.confirm import Verdict, plan, spread, verdict
from tunesmith.types import MainScore

MAIN = MainScore("accuracy", "higher")
RECIPE = Recipe.make({"task": "text_classification", "model": "a-model", "data": "reviews.csv"})


def told(
    default: list[float], winner: list[float], *, main: MainScore = MAIN, failed: dict[str, str] | None = None
) -> Verdict:
    runs = plan(RECIPE, RECIPE, 7, seeds=len(default), folder=Path("confirm"))
    values = [score for pair in zip(default, winner, strict=True) for score in pair]
    scores = {run.folder: (score, None) for run, score in zip(runs, values, strict=True) if not math.isnan(score)}
    return verdict(main, runs, scores, {Path("confirm") / name: why for name, why in (failed or {}).items()})


def test_new_seeds_come_after_the_recipes_own() -> None:
    runs = plan(RECIPE.changed("train.seed=5"), RECIPE, 7, seeds=2, folder=Path("c"))
    assert [(run.who, run.seed, run.recipe.train.seed) for run in runs] == [
        ("default", 6, 6),
        ("winner", 6, 6),
        ("default", 7, 7),
        ("winner", 7, 7),
    ]


def test_a_winner_that_wins_on_every_seed_is_better() -> None:
    found = told([0.80, 0.81, 0.79], [0.85, 0.86, 0.845])
    assert found.kind == "better"
    assert found.gain is not None
    # differences 0.05, 0.05, 0.055: mean 0.05167, deviation 0.002887, t(2) 4.3027
    assert found.gain.value == pytest.approx(0.0516667, abs=1e-6)
    assert found.gain.low == pytest.approx(0.0516667 - 4.302653 * 0.00288675 / math.sqrt(3), abs=1e-6)
    assert "Better than the default by +0.0517 [+0.0445, +0.0588]" in found.words


def test_a_winner_that_was_lucky_is_not_called_better() -> None:
    found = told([0.80, 0.82, 0.79], [0.83, 0.80, 0.81])
    assert found.kind == "unclear"
    assert "Not better than the default" in found.words


def test_a_winner_that_loses_on_every_seed_is_worse() -> None:
    assert told([0.85, 0.86, 0.845], [0.80, 0.81, 0.79]).kind == "worse"


def test_where_lower_is_better_less_is_better() -> None:
    found = told([0.50, 0.52, 0.51], [0.40, 0.41, 0.40], main=MainScore("loss", "lower"))
    assert found.kind == "better"
    assert found.gain is not None
    assert found.gain.value > 0
    assert "above 0 is better" in found.words


def test_a_run_that_failed_confirms_nothing() -> None:
    found = told([0.8, 0.8], [0.9, math.nan], failed={"trial-0007-seed-2": "step 3: loss nan"})
    assert found.kind == "unclear"
    assert "on seed 2 the winner failed: step 3: loss nan" in found.words


def test_seeds_that_are_missing_leave_it_open() -> None:
    assert told([0.8, 0.8, 0.8], [0.9, 0.9, math.nan]).kind == "open"
    assert told([0.8], [0.9]).kind == "open"


def test_seeds_that_agree_have_an_interval_without_width() -> None:
    assert spread([0.5, 0.5, 0.5]).low == 0.5

"""The winner against the default on new seeds: what may be said, and what may not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tunesmith.recipe.recipe import Recipe
from tunesmith.run.search import confirm
from tunesmith.run.search.confirm import Kind, Run, Verdict, least_variance, plan, spread, verdict
from tunesmith.types import MainScore

MAIN = MainScore("accuracy", "higher")
RECIPE = Recipe.make({"task": "text_classification", "model": "a-model", "data": "reviews.csv"})


MANY = 10**9
"""Examples whose chance is next to nothing."""


def paired(
    default: list[float], winner: list[float], lost: tuple[list[float], list[float]] | None
) -> tuple[list[Run], dict[Path, tuple[float, float | None]]]:
    runs = plan(RECIPE, RECIPE, 7, seeds=len(default), folder=Path("confirm"))
    values = [score for pair in zip(default, winner, strict=True) for score in pair]
    gone = [None] * len(runs) if lost is None else [value for pair in zip(*lost, strict=True) for value in pair]
    scores = {run.folder: (score, forgotten) for run, score, forgotten in zip(runs, values, gone, strict=True)
              if not math.isnan(score)}  # fmt: skip
    return runs, scores


def told(
    default: list[float],
    winner: list[float],
    *,
    main: MainScore = MAIN,
    failed: dict[str, str] | None = None,
    lost: tuple[list[float], list[float]] | None = None,
    examples: int = MANY,
) -> Verdict:
    runs, scores = paired(default, winner, lost)
    names = {Path("confirm") / name: why for name, why in (failed or {}).items()}
    return verdict(main, runs, scores, names, examples=examples)


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


def test_seeds_that_agree_on_few_examples_do_not_make_a_winner_better() -> None:
    found = told([0.90, 0.90, 0.90], [0.92, 0.92, 0.92], examples=50)
    assert found.kind == "unclear"
    assert found.gain is not None
    # one answer of 50 differs: variance (0.02 - 0.02^2) / 50, of a normal distribution since the seeds add nothing
    half = 1.959964 * math.sqrt((0.02 - 0.02**2) / 50)
    assert (found.gain.low, found.gain.high) == pytest.approx((0.02 - half, 0.02 + half), abs=1e-6)
    assert "95 % interval over seeds and 50 examples" in found.words
    assert told([0.90, 0.90, 0.90], [0.92, 0.92, 0.92], examples=500).kind == "better"


@pytest.mark.parametrize("difference", [0.02, -0.1, 0.5])
def test_no_answers_to_so_many_examples_vary_less_than_is_reckoned_with(difference: float) -> None:
    generator = np.random.default_rng(0)
    wanted = round(100 * difference)
    fewest = math.inf
    for both in range(0, 101 - abs(wanted), 2):  # so many more that differ, and cancel out
        answers = np.array([1] * (both // 2 + max(wanted, 0)) + [-1] * (both // 2 + max(-wanted, 0)))
        each = generator.permutation(np.concatenate([answers, np.zeros(100 - len(answers))]))
        assert each.mean() == pytest.approx(difference)
        fewest = min(fewest, float(np.var(each)) / 100)
    assert least_variance(difference, 100) == pytest.approx(fewest)


def test_of_a_loss_the_interval_is_over_seeds_alone_and_says_so() -> None:
    found = told([0.50, 0.52, 0.51], [0.40, 0.41, 0.40], main=MainScore("loss", "lower"), examples=50)
    assert found.gain == told([0.50, 0.52, 0.51], [0.40, 0.41, 0.40], main=MainScore("loss", "lower")).gain
    assert "95 % interval over seeds alone" in found.words


def test_a_better_score_at_the_price_of_more_forgetting_is_told_as_such() -> None:
    better = ([0.80, 0.81, 0.79], [0.85, 0.86, 0.845])
    found = told(*better, lost=([0.01, 0.02, 0.01], [0.05, 0.06, 0.055]))
    assert found.kind == "forgets"
    assert "Better than the default by +0.0517" in found.words
    assert "but it forgets more on these seeds. What old tasks lose changes by +0.0417" in found.words
    assert told(*better, lost=([0.01, 0.02, 0.01], [0.05, 0.00, 0.02])).kind == "better", "it may be chance"
    assert told(*better, lost=([0.05, 0.06, 0.055], [0.01, 0.02, 0.01])).kind == "better"


def test_more_forgetting_on_seeds_that_agree_is_sure_only_beyond_the_chance_of_the_old_examples() -> None:
    better = ([0.80, 0.81, 0.79], [0.85, 0.86, 0.845])
    lost = ([0.0] * 3, [0.02] * 3)
    few, many, unknown = (
        verdict(MAIN, runs, scores, {}, examples=MANY, old_rows=rows)
        for runs, scores in [paired(*better, lost)]
        for rows in (50, 5000, None)
    )
    assert few.kind == "better", "one old answer of 50 may be chance"
    assert (many.kind, unknown.kind) == ("forgets", "forgets")
    assert "but it surely forgets more." in many.words
    assert "but it forgets more on these seeds." in unknown.words


def test_of_ap_and_micro_f1_the_interval_is_over_seeds_alone() -> None:
    for name in ("ap", "micro_f1"):
        found = told([0.90] * 3, [0.92] * 3, main=MainScore(name, "higher"), examples=50)
        assert found.gain is not None
        assert found.gain.low == found.gain.high
        assert "95 % interval over seeds alone" in found.words


def test_every_verdict_has_a_chip_on_the_page() -> None:
    page = (Path(confirm.__file__).parent / "search.html.j2").read_text()
    for kind in get_args(Kind):
        assert f"'{kind}': '" in page

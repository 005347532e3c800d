"""A run is made to fit by smaller passes, then by activations computed twice, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.run.worker import recipe, write_reviews

from tunesmith.errors import RecipeError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run import advice, budget, footprint, pace
from tunesmith.run.budget import fit_into
from tunesmith.run.footprint import Footprint
from tunesmith.run.forecast import Forecast
from tunesmith.run.setup import Ready, set_up, start_learning
from tunesmith.run.tryout import tryout

Settings = Callable[..., dict[str, Any]]
MIB = 2**20


@pytest.fixture
def settings(tiny_folders: Callable[[str], Path], tmp_path: Path) -> Settings:
    data = write_reviews(tmp_path / "reviews.csv")
    return lambda **changes: recipe(tiny_folders("bert"), data, **changes)


@pytest.fixture
def plain_numbers(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """1,000 MiB held, 100 MiB an example, 20 MiB with activations computed twice; nothing is measured."""
    seen: list[bool] = []

    def made(ready: Any, learning: Any, *, most: int, length: int | None = None) -> Footprint:
        twice = any("forward_that_keeps_activations" in module.__dict__ for module in learning.model.modules())
        seen.append(twice)
        each = 20.0 if twice else 100.0
        return Footprint(0.0, each * (1.0 if length is None else length / 24))

    for module in (budget, advice):
        monkeypatch.setattr(module, "footprint", made)
        monkeypatch.setattr(module, "settled_mib", lambda: 1000.0)
        monkeypatch.setattr(module, "SAFETY", 1.0)
    of = {"before": 1.0, "training": 100.0, "evaluations": 0.0, "checkpoints": 0.0, "ending": 1.0}
    told = Forecast(102.0, 90.0, 115.0, 1000.0, 1000.0, 1100.0, of, 100, 16)
    monkeypatch.setattr(budget, "forecast", lambda *_given, **_named: told)
    return seen


def wide(settings: Settings, **train: Any) -> Recipe:
    return Recipe.make(settings(train={"batch_size": 16, "micro_batch_size": 16, **train}))


def test_a_run_that_fits_is_left_as_it_is(settings: Settings, plain_numbers: list[bool]) -> None:
    given = wide(settings)
    found, lines = fit_into(given, max_memory_bytes=3000 * MIB, max_seconds=3600)
    assert found == given
    assert lines[0] == "nothing has to change for the memory"
    assert "it fits into --max-time, 60.0 min" in lines


def test_passes_shrink_first_and_the_batch_stays(settings: Settings, plain_numbers: list[bool]) -> None:
    sizes = []
    for mib in (2700, 1900, 1500, 1110):
        found, lines = fit_into(wide(settings), max_memory_bytes=mib * MIB)
        sizes.append(found.train.micro_batch_size)
        assert found.train.batch_size == 16
        assert found.train.checkpoint_activations == "auto"
    assert sizes == [16, 8, 4, 1]
    assert "a step still takes 16 examples, in 16 passes" in lines[0]


def test_activations_are_computed_twice_where_one_at_a_time_is_too_much(
    settings: Settings, plain_numbers: list[bool]
) -> None:
    found, lines = fit_into(wide(settings), max_memory_bytes=1090 * MIB)
    assert found.train.checkpoint_activations is True
    assert found.train.micro_batch_size == 4
    assert any("about a third longer" in line for line in lines)
    assert found.changed("train.micro_batch_size=16", "train.checkpoint_activations=auto") == wide(settings)


def test_a_refusal_of_the_persons_own_is_kept(settings: Settings, plain_numbers: list[bool]) -> None:
    with pytest.raises(RecipeError, match="micro_batch_size=1") as caught:
        fit_into(wide(settings, checkpoint_activations=False), max_memory_bytes=1090 * MIB)
    assert "checkpoint_activations" not in str(caught.value)
    assert True not in plain_numbers


def test_where_nothing_fits_the_message_says_what_would(settings: Settings, plain_numbers: list[bool]) -> None:
    with pytest.raises(RecipeError) as caught:
        fit_into(wide(settings), max_memory_bytes=1016 * MIB)
    words = str(caught.value)
    assert caught.value.exit_code == 2
    assert "1016 MiB were given, and this run needs about 1020 MiB" in words
    assert "train.micro_batch_size=1 and train.checkpoint_activations=true" in words
    assert "1000 MiB are held before anything learns" in words
    assert "task.max_length=18, about 1015 MiB" in words
    assert "--max-memory 1021MiB" in words


def test_a_run_too_long_is_refused_with_the_steps_that_fit(settings: Settings, plain_numbers: list[bool]) -> None:
    with pytest.raises(RecipeError) as caught:
        fit_into(wide(settings), max_seconds=52)
    words = str(caught.value)
    assert "52 s were given, and this run takes about 1.7 min" in words
    assert "train.steps=50 (of 100;" in words
    assert "--max-time 115s" in words


def test_a_time_within_the_band_is_told(settings: Settings, plain_numbers: list[bool]) -> None:
    _, lines = fit_into(wide(settings), max_seconds=110)
    assert any("within the band" in line for line in lines)


def test_memory_of_a_large_pass_follows_from_small_ones(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def adding(_ready: Any, _learning: Any, count: int, length: int | None) -> None:
        asked.append(10 + 40 * count * (length or 24) / 24)

    def added(run: Callable[[], object]) -> float:
        run()
        return asked[-1]

    monkeypatch.setattr(footprint, "_pass", adding)
    monkeypatch.setattr(footprint, "_added", added)
    ready = next(f for f in set_up(wide(settings), tmp_path) if isinstance(f, Ready))
    learning = start_learning(ready)
    with tryout(ready, learning, updates=False):
        found = footprint.footprint(ready, learning, most=16)
        shorter = footprint.footprint(ready, learning, most=16, length=12)
    assert found.of(16) == pytest.approx(650)
    assert shorter.each == pytest.approx(20)


def test_a_real_pass_adds_memory_and_leaves_no_gradient(settings: Settings, tmp_path: Path) -> None:
    ready = next(f for f in set_up(wide(settings), tmp_path) if isinstance(f, Ready))
    learning = start_learning(ready)
    with tryout(ready, learning, updates=False):
        for length in (None, 8):
            footprint._pass(ready, learning, 4, length)
            assert all(tensor.grad is None for tensor in learning.learned.values())
        assert footprint.footprint(ready, learning, most=4).of(4) >= 0


def test_the_real_thing_fits_and_says_what_it_expects(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "ROUNDS", 1)
    found, lines = fit_into(wide(settings, steps=4), max_memory_bytes=64 * 2**30, max_seconds=3600)
    assert found == wide(settings, steps=4)
    assert any(line.startswith("expected: 4 steps of 16 examples") for line in lines)
    assert np.isfinite(footprint.settled_mib())

"""A finished run on tasks of the lm-evaluation-harness, beside its untouched model, from Python and the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.harness_files import write_choices
from tests.run.tiny_speaker import tuned_run
from typer.testing import CliRunner

from tunesmith.cli import app
from tunesmith.deploy import harness
from tunesmith.deploy.harness import evaluate_harness
from tunesmith.errors import ModelError, RecipeError

pytest.importorskip("lm_eval", reason="the harness extra is not installed")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_run(tmp_path_factory)


def test_both_models_are_scored_with_intervals(folder: Path, tmp_path: Path) -> None:
    path = write_choices(tmp_path / "t")
    (found,) = evaluate_harness(folder, [str(path)], tmp_path / "w", rows=12)
    assert (found.task, found.main_score, found.documents) == ("boats", "acc", 12)
    assert found.untouched is not None
    assert found.difference is not None
    assert found.difference[0] == pytest.approx(found.scores["acc"] - found.untouched["acc"])
    assert found.interval[0] <= found.scores["acc"] <= found.interval[1]


def test_without_its_base_the_run_stands_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_predictor: harness.Predictor) -> None:
        raise ModelError("the base is gone")

    monkeypatch.setattr(harness.Predictor, "untouched", property(gone))
    (found,) = evaluate_harness(folder, [str(write_choices(tmp_path / "t"))], tmp_path / "w")
    assert found.untouched is found.difference is None
    assert "the base is gone" in found.why_alone


def test_the_command_tells_scores_in_words_and_as_json(folder: Path, tmp_path: Path) -> None:
    path = write_choices(tmp_path / "t")
    words = ["evaluate", str(folder), "--harness", f"harness:{path}", "--rows", "8"]
    said = CliRunner().invoke(app, words, catch_exceptions=False)
    assert [line.split()[0] for line in said.stdout.splitlines()] == ["boats", "untouched", "fine-tuned", "difference"]
    said = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    (told,) = json.loads(said.stdout)["harness"]
    assert (told["task"], told["documents"]) == ("boats", 8)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "--data FILE, --harness TASK"),
        (["--rows", "3", "--data", "d.csv"], "--rows is for"),
        (["--harness", "x.yaml", "data.limit=3"], "says how data are read"),
        (["--harness", "gone.yaml"], "no task file"),
    ],
)
def test_wrong_usage_is_told(words: list[str], match: str, folder: Path) -> None:
    said = CliRunner().invoke(app, ["evaluate", str(folder), *words])
    assert match in str(said.exception)


def test_a_run_of_another_kind_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.tasks.causal_lm import CausalLm

    monkeypatch.setattr(CausalLm, "goes_on", False)
    with pytest.raises(RecipeError, match="asks language models"):
        evaluate_harness(folder, [str(write_choices(tmp_path / "t"))], tmp_path / "w")

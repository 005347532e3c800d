"""The matrix over tasks learned one after the other: found backwards, summed up by hand-computed numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tunesmith.errors import RunError
from tunesmith.run.sequence import Matrix, matrix


def write(folder: Path, model: str, after: float, old: Sequence[tuple[Path, float]] = (), **more: Any) -> Path:
    """A finished run as far as the matrix reads it. old: earlier runs and their scores after this one."""
    name, better = more.get("main", ("accuracy", "higher"))
    (folder / "best").mkdir(parents=True)
    told = [{"source": str(source), **more.get("entry", {})} for source, _ in old]
    recipe = {"task": "text_classification", "model": model, "data": "x.csv", "method": "full",
              "forgetting": {"old_tasks": told}}  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    summary = {"split_sizes": {"train": 10, "validation": 0, "test": 100}}
    (folder / "manifest.json").write_text(json.dumps({"model": {"path": model}, "data": {"summary": summary}}))
    scores = {
        "main_score": {"name": name, "better": better},
        "part": "test",
        "after": {name: after},
        "old_tasks": {
            more.get("entry", {}).get("name", source.name): {
                "kind": "run",
                "main_score": {"name": name, "better": better},
                "rows": more.get("rows", 100),
                "after": {name: value},
            }
            for source, value in old
        },
    }
    (folder / "scores.json").write_text(json.dumps(scores))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Three stages: named by run, by its merged/ and by its best/."""
    a = write(tmp_path / "a", "bert", 0.90)
    b = write(tmp_path / "b", str(a / "merged"), 0.80, [(a, 0.95)])
    c = write(tmp_path / "c", str(b / "best"), 0.70, [(a, 0.60), (b, 0.85)])
    return [a, b, c]


def test_the_sequence_is_found_backwards_and_its_sums_are_right(runs: list[Path]) -> None:
    found = matrix([runs[-1]])
    assert found == matrix(runs)
    assert found.names == ("a", "b", "c")
    assert found.table == ((0.90, None, None), (0.95, 0.80, None), (0.60, 0.85, 0.70))
    assert found.forgetting == pytest.approx((0.35, -0.05))  # max(0.90, 0.95) - 0.60 and 0.80 - 0.85
    assert found.average_forgetting == pytest.approx(0.15)
    assert found.backward_transfer == pytest.approx((-0.30, 0.05))
    assert found.average_backward_transfer == pytest.approx(-0.125)
    assert found.notes == ()


def test_a_score_that_was_not_taken_is_none_and_said(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "bert", 0.90)
    b = write(tmp_path / "b", str(a), 0.80)
    c = write(tmp_path / "c", str(b), 0.70, [(b, 0.75)])
    found = matrix([c])
    assert found.table == ((0.90, None, None), (None, 0.80, None), (None, 0.75, 0.70))
    assert found.forgetting[0] is None
    assert found.forgetting[1] == pytest.approx(0.05)
    assert found.average_forgetting == pytest.approx(0.05)
    assert any("a was not scored after b, c" in note for note in found.notes)
    assert "not taken" in "\n".join(found.lines())


def test_lower_is_better_is_turned_round(tmp_path: Path) -> None:
    told: dict[str, Any] = {"main": ("perplexity", "lower")}
    a = write(tmp_path / "a", "gpt", 10.0, **told)
    b = write(tmp_path / "b", str(a), 8.0, [(a, 13.0)], **told)
    found = matrix([a, b])
    assert found.forgetting == (3.0,)
    assert found.backward_transfer == (-3.0,)


def test_an_old_task_is_found_by_the_name_that_the_recipe_gives_it(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "bert", 0.9)
    b = write(tmp_path / "b", str(a), 0.8, [(a, 0.5)], entry={"name": "news"})
    assert matrix([b]).table[1][0] == 0.5
    other = write(tmp_path / "other", str(a), 0.8, [(a, 0.5)], entry={"data": {"path": "y.csv"}})
    assert matrix([other]).table[1][0] is None  # on data of its own it is another score


def test_scores_on_different_numbers_of_examples_are_said(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "bert", 0.9)
    b = write(tmp_path / "b", str(a), 0.8, [(a, 0.5)], rows=40)
    assert any("40, 100 examples" in note for note in matrix([b]).notes)


def test_scores_without_a_common_scale_have_no_average(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "bert", 0.9)
    b = write(tmp_path / "b", str(a), 9.0, [(a, 0.8)], main=("perplexity", "lower"))
    (b / "scores.json").write_text((b / "scores.json").read_text().replace('"perplexity": 0.8', '"accuracy": 0.8'))
    c = write(tmp_path / "c", str(b), 0.7, [(a, 0.7), (b, 9.5)])
    (c / "scores.json").write_text((c / "scores.json").read_text().replace('"accuracy": 9.5', '"perplexity": 9.5'))
    found = matrix([c])
    assert found.forgetting == pytest.approx((0.2, 0.5))
    assert found.average_forgetting is None
    assert any("no common scale" in note for note in found.notes)


def test_runs_that_are_no_sequence_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"c did not start from .*/a but from .*/b"):
        matrix([runs[0], runs[2]])
    with pytest.raises(RunError, match="did not start from an earlier run, but from bert"):
        matrix([runs[0]])
    (runs[0] / "scores.json").unlink()
    with pytest.raises(RunError, match="tunesmith resume"):
        matrix([runs[2]])


def test_the_lines_say_what_every_number_is(runs: list[Path]) -> None:
    lines = matrix(runs).lines()
    assert lines[0].split() == ["after", "learning", "a", "(accuracy)", "b", "(accuracy)", "c", "(accuracy)"]
    assert lines[1].split() == ["a", "0.900", "-", "-"]
    assert lines[3].split() == ["c", "0.600", "0.850", "0.700"]
    assert lines[4].split() == ["forgetting", "+0.350", "-0.050", "-"]
    text = "\n".join(lines)
    assert "average forgetting         +0.150" in text
    assert "above 0 is lost" in text


def test_the_command_prints_lines_or_json(runs: list[Path]) -> None:
    import typer

    from tunesmith.cli_sequence import retained

    app = typer.Typer()
    app.command()(retained)
    found: Matrix = matrix(runs)
    shown = CliRunner().invoke(app, [str(runs[-1])])
    assert shown.output.splitlines() == found.lines()
    shown = CliRunner().invoke(app, [*map(str, runs), "--json"])
    assert json.loads(shown.output) == found.as_dict()

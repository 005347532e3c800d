"""What a comparison must not say: that a broken old task lost nothing, or that other test examples are the same."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.run.studies import bare_recipe, run_of
from tests.run.test_verdict import answers, said

from tunesmith.run.compare.judged import Judged, judge
from tunesmith.run.compare.page import context
from tunesmith.run.compare.verdict import Row, comparable, compare_pairs, put_on_front, summed_up
from tunesmith.terminal_study import comparison_table

NAN = math.nan


def broken_study() -> list[Row]:
    """lora lost 5 points of an old task; full, which scores a little better, made a NaN of it."""
    lora = summed_up("lora", "none", [run_of(answers(0.8), lost=[0.05, 0.04, 0.06])])
    full = summed_up("full", "none", [run_of(answers(0.82), lost=[NAN, NAN, NAN], cost={"seconds": 1.0})])
    return [lora, full]


def test_an_old_task_that_became_no_number_is_never_advised_and_on_no_front(tmp_path: Path) -> None:
    rows, over = put_on_front(broken_study())
    assert [row.on_front for row in rows] == [True, False]
    assert "forgetting of news" in over
    told = said(*rows)
    assert told.startswith("Only lora is left to advise")
    assert "Never advised, and on no front: full (0.8" in told
    assert "news had a score before and has no number any more" in told
    page = context(rows, compare_pairs(rows), bare_recipe(tmp_path))
    assert page["best"] == "lora"
    assert [each["forgetting"][0]["value"] for each in page["rows"]] == ["5.0", "no number"]
    assert page["runs"][1]["lost"][0][0] == "no number"


def test_one_broken_seed_breaks_the_row_and_the_others_are_compared_without_it() -> None:
    lora, _ = broken_study()
    head = summed_up("head", "none", [run_of(answers(0.5), lost=[0.0, 0.0, 0.0])])
    seeds = [run_of(answers(0.9), seed=n, lost=[v, v, v]) for n, v in enumerate((0.0, NAN))]
    full = summed_up("full", "none", seeds)
    assert full.broken == ("news",)
    assert full.forgetting == {}
    told = said(full, lora, head)
    assert told.startswith("lora is best here")
    assert "Never advised, and on no front: full" in told
    assert "Worse than lora" in told


def test_where_every_row_is_broken_none_is_advised() -> None:
    _, full = broken_study()
    told = said(full, replace(full, method="bitfit"))
    assert told.startswith("No row can be advised here.")
    assert "No old task was scored" not in told


def test_an_old_task_that_had_no_score_before_is_not_broken() -> None:
    run = run_of(answers(0.8), lost=[NAN, NAN, NAN])
    old = {"main_score": {"name": "ap", "better": "higher"}, "before": {"ap": -1.0}, "after": {"ap": -1.0}}
    held = {"news": {**run.scores["old_tasks"]["news"], **old}}
    row = summed_up("full", "none", [replace(run, scores={**run.scores, "old_tasks": held})])
    assert row.broken == ()
    assert row.forgetting == {}


def test_rows_on_other_test_examples_enter_neither_the_best_nor_the_front(tmp_path: Path) -> None:
    rows = [
        summed_up("easy", "none", [run_of(answers(0.99), key="other", cost={"seconds": 1.0})]),
        summed_up("full", "none", [run_of(answers(0.8))]),
        summed_up("lora", "none", [run_of(answers(0.5))]),
    ]
    assert comparable(rows) == [1, 2]
    placed, _ = put_on_front(rows)
    assert [row.on_front for row in placed] == [False, True, False]
    told = said(*rows)
    assert told.startswith("full is best here")
    assert "Not compared with full and those scored as it was, since test examples differ" in told
    assert "easy (0.99" in told
    page = context(placed, compare_pairs(placed), bare_recipe(tmp_path))
    assert page["best"] == "full"
    assert page["rows"][-1]["method"] == "easy"


def test_of_groups_of_one_size_that_of_the_first_row_counts() -> None:
    rows = [summed_up(name, "none", [run_of(answers(0.5), key=name)]) for name in ("b", "a")]
    assert comparable(rows) == [0]
    torn = summed_up("torn", "none", [run_of(answers(0.9), seed=n, key=str(n)) for n in range(2)])
    assert comparable([torn, *rows]) == [1]
    nothing = summed_up("nan", "none", [replace(run_of(answers(0.9)), value=NAN)])
    assert comparable([nothing, *rows]) == [1]


def test_a_choice_on_the_reported_examples_is_said() -> None:
    run = run_of(answers(0.8), lost=[0.0, 0.0, 0.0])
    held = {"news": {**run.scores["old_tasks"]["news"], "chosen_by": ["wise_ft"]}}
    row = summed_up("full", "wise_ft", [replace(run, scores={**run.scores, "old_tasks": held})])
    assert "full with wise_ft chose its state by the very examples that news is reported on" in said(row)


def test_rows_on_test_examples_of_their_own_are_advised_by_none(tmp_path: Path) -> None:
    rows, over = put_on_front([summed_up(name, "none", [run_of(answers(0.8), key=name)]) for name in ("b", "a")])
    assert not any(row.on_front for row in rows)
    assert over == []
    assert said(*rows).startswith("These rows were scored on different test examples, so none is advised.")
    assert context(rows, compare_pairs(rows), bare_recipe(tmp_path))["best"] == ""


def test_a_caveat_that_rows_share_is_said_once() -> None:
    lora, full = broken_study()
    told = said(lora, full, replace(full, method="bitfit"))
    assert told.count("Never advised, and on no front") == 1
    assert "so that what they forgot is not known" in told
    run = run_of(answers(0.8), lost=[0.0, 0.0, 0.0])
    held = {"news": {**run.scores["old_tasks"]["news"], "chosen_by": ["at_most"]}}
    rows = [summed_up(name, "none", [replace(run, scores={**run.scores, "old_tasks": held})]) for name in "abc"]
    assert "All rows chose their states by the very examples that news is reported on" in said(*rows)
    assert "a and b chose their states" in said(*rows[:2], lora)


def test_where_every_row_is_broken_the_page_holds_none_up_and_the_terminal_says_why(tmp_path: Path) -> None:
    _, full = broken_study()
    rows = [full, replace(full, method="bitfit")]
    page = context(rows, compare_pairs(rows), bare_recipe(tmp_path))
    assert (page["best"], page["against"]) == ("", [])
    assert len(page["all_pairs"]) == 1
    shown = Console(width=200, record=True, file=io.StringIO())
    shown.print(comparison_table(rows))
    assert shown.export_text().count("no number") == 2


def detector(folder: Path, hits: int) -> Path:
    """A finished run on 12 pictures of which two alone hold a box, so that many resamples hold none."""
    box = [0.0, 0.0, 10.0, 10.0, "cat"]
    rows = [
        {"image": f"{n}.png", "boxes": [[*box, False]] if n < 2 else [], "predicted": [[*box, 0.9]] if n < hits else []}
        for n in range(12)
    ]
    (folder / "predictions").mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "predictions" / "test_after.jsonl").write_text(lines, encoding="utf-8")
    found = round((101 if hits == 2 else 51) / 101, 6)
    scores: dict[str, Any] = {"main_score": {"name": "ap", "better": "higher"}, "after": {"ap": found}}
    (folder / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps({"labels": ["cat"]}), encoding="utf-8")
    return folder


def test_resamples_without_a_true_box_count_nowhere(tmp_path: Path) -> None:
    runs: list[Judged] = judge([(detector(tmp_path / "both", 2), 0), (detector(tmp_path / "one", 1), 0)])
    for run in runs:
        assert run.draws is not None
        assert np.isnan(run.draws).any()
        assert np.nanmin(run.draws) >= 0
    both, one = (summed_up(name, "none", [run]) for name, run in zip(("both", "one"), runs, strict=True))
    assert both.score is not None
    assert both.score.low == pytest.approx(1.0)
    (pair,) = compare_pairs([both, one])
    assert pair.paired
    assert not math.isnan(pair.p)

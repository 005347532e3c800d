"""Answers in words in a run: the untouched and the tuned model side by side, scored, and never asked twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.run.test_card import head_and_page, run_code
from tests.run.tiny_speaker import GREETED, REPLY, fit_speaker, recipe_for, tuned_run

from tunesmith.run import answered
from tunesmith.run.fit import resume, stream
from tunesmith.run.folder import open_run


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_run(tmp_path_factory)


def kept(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "predictions" / "answers.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_the_tuned_model_stops_by_itself(spoken: Path) -> None:
    rows = kept(spoken)["rows"]
    assert len(rows) == 4
    assert all(row["after"]["ended"] for row in rows)
    assert not any(row["before"]["ended"] for row in rows)
    assert {row["after"]["text"] for row in rows} == {REPLY, GREETED}
    assert all(row["before"]["tokens"] == 24 for row in rows)


def test_the_scores_of_answers_stand_in_scores_json_with_intervals(spoken: Path) -> None:
    scores, rows = open_run(spoken).scores, kept(spoken)["rows"]
    assert scores["after"]["normalised_match"] == 1.0
    assert scores["before"]["rouge_l"] == pytest.approx(sum(r["scores"]["before"]["rouge_l"] for r in rows) / 4)
    assert scores["intervals"]["after"]["rouge_l"] == [1.0, 1.0]
    assert "loss" in scores["intervals"]["after"]
    assert scores["difference"]["rouge_l"][0] == pytest.approx(1.0 - scores["before"]["rouge_l"])
    assert scores["difference"]["loss"][0] < 0


def test_the_report_shows_them_and_the_cards_lines_give_the_same_answer(
    spoken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (spoken / "report.html").read_text(encoding="utf-8")
    assert "In its own words" in page
    assert REPLY in page
    _, card = head_and_page(spoken)
    capsys.readouterr()
    run_code(card, spoken, monkeypatch)
    assert capsys.readouterr().out.strip() in (REPLY, GREETED)


@pytest.mark.slow
def test_a_resumed_run_does_not_ask_the_untouched_model_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    plain = answered._answer

    def counted(ready: Any, model: Any, rows: Any, options: Any, when: str) -> None:
        asked.append(when)
        plain(ready, model, rows, options, when)

    monkeypatch.setattr(answered, "_answer", counted)
    events = stream(recipe_for(tmp_path, "train.steps=4"), tmp_path / "run")
    for event in events:
        if type(event).__name__ == "Step":
            break
    events.close()  # type: ignore[attr-defined]
    before = [row["before"] for row in kept(tmp_path / "run")["rows"]]
    resume(tmp_path / "run")
    assert asked == ["before", "after"]
    assert [row["before"] for row in kept(tmp_path / "run")["rows"]] == before


@pytest.mark.slow
def test_a_run_without_rows_asks_nothing(tmp_path: Path) -> None:
    folder = fit_speaker(tmp_path, tmp_path / "run", "task.answers.rows=0", "train.steps=2")
    assert not (folder / "predictions" / "answers.json").exists()
    assert "rouge_l" not in open_run(folder).scores["after"]
    assert "In its own words" not in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_plain_texts_are_gone_on_with_from_their_opening(tmp_path: Path) -> None:
    recipe_for(tmp_path)
    (tmp_path / "texts").mkdir()
    for n in range(24):
        (tmp_path / "texts" / f"{n}.txt").write_text(
            f"the tune of day {n} is a song that everybody knows by heart. " * 2
        )
    folder = fit_speaker(
        tmp_path, tmp_path / "run", f"data={tmp_path / 'texts'}", "train.steps=2", "task.answers.scores=[]"
    )
    rows = kept(folder)["rows"]
    assert len(rows) == len([row for row in rows if "text" in row["chat"]]) > 0
    for row in rows:
        assert row["chat"]["text"].startswith("the tune of day")
        assert len(row["prompt"]) == 32
        assert row["wanted"]
    assert "to go on with texts" in (folder / "best" / "README.md").read_text(encoding="utf-8")

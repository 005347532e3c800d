"""Answers in words on the page: both models side by side, foreign text harmless, breaks kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.run.language_sample import rows, write_language_run
from tests.run.sample import write_json, write_run
from tests.run.test_report import report

from tunesmith.run.report_parts.side_by_side import MOST, OPEN, lines


def words_of(folder: Path) -> str:
    page, _ = report(folder)
    return " ".join(page.text.split())


def with_rows(folder: Path, found: list[Any]) -> Path:
    file = folder / "predictions" / "answers.json"
    write_json(file, json.loads(file.read_text(encoding="utf-8")) | {"rows": found})
    return folder


def test_both_models_answers_stand_beside_what_was_asked_and_wanted(tmp_path: Path) -> None:
    text = words_of(write_language_run(tmp_path / "run"))
    assert "In its own words" in text
    for row in rows():
        asked = row["chat"].get("text") or row["chat"]["messages"][-1]["content"]
        for said in (asked, row["after"]["text"], row["wanted"]):
            assert " ".join(said.split()) in text
    assert "stopped by itself in 3 answers, the tuned one in 6; an answer is cut off at 96 tokens" in text
    assert "3 earlier messages" in text
    assert "120 tokens of the question were not read" in text
    assert "the text begins" in text


def test_the_scores_of_answers_stand_with_the_others(tmp_path: Path) -> None:
    text = words_of(write_language_run(tmp_path / "run"))
    assert "Loss 3.310 → 1.180" in text
    for told in ("ROUGE-L", "Same answers", "Tokens guessed right", "Perplexity"):
        assert told in text
    assert "newly drawn" not in text
    assert "Gain in" not in text, "a loss that falls is a change, not a gain below zero"


def test_foreign_answers_cannot_disturb_the_page(tmp_path: Path) -> None:
    page, source = report(write_language_run(tmp_path / "run"))
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert "&lt;img src=x onerror=alert(1)&gt;" in source
    assert "\u202e" not in source
    assert "⟨U+202E⟩" in source


def test_the_breaks_of_an_answer_are_kept(tmp_path: Path) -> None:
    _, source = report(write_language_run(tmp_path / "run"))
    assert '<span dir="auto">    return a + b</span>' in source
    assert lines("a\n\n\n\nb\n") == ["a", "", "b"]
    assert lines("\tx") == ["x"]
    assert lines("a\n\tx") == ["a", "    x"]
    assert lines("abcdef", 4) == ["abcd", "… (2 more characters)"]
    assert lines("") == []


def test_a_run_that_is_still_going_shows_the_untouched_models_answers(tmp_path: Path) -> None:
    text = words_of(write_language_run(tmp_path / "run", finished=False))
    assert "answered by the untouched model" in text
    assert rows()[1]["before"]["text"] in text
    assert rows()[1]["after"]["text"] not in text


def test_of_many_answers_some_stand_behind_a_fold_and_the_rest_in_the_file(tmp_path: Path) -> None:
    many = [{**rows()[0], "wanted": f"answer number {n}"} for n in range(MOST + 5)]
    text = words_of(with_rows(write_language_run(tmp_path / "run"), many))
    assert f"{MOST - OPEN} more" in text
    assert "5 further ones stand in predictions/answers.json" in text
    assert f"answer number {MOST - 1}" in text
    assert f"answer number {MOST}" not in text


def test_rows_that_are_none_do_not_spoil_the_page(tmp_path: Path) -> None:
    odd = [
        3,
        {},
        {"before": 4},
        {"before": {"text": None}, "chat": 5, "after": {}},
        {"before": {}, "chat": {}},
        rows()[0],
    ]
    folder = with_rows(write_language_run(tmp_path / "run"), odd)
    assert "little helper" in words_of(folder)
    (folder / "predictions" / "answers.json").write_text("{broken")
    text = words_of(folder)
    assert "In its own words" not in text
    assert "answers.json" in text


def test_a_classifier_has_no_such_section(tmp_path: Path) -> None:
    page, source = report(write_run(tmp_path / "run"))
    assert "In its own words" not in page.text
    assert ".exchange" not in source

"""Files that are replaced whole, work that tells how far it is, and words that cannot command a terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from tunesmith import progress as progress_module
from tunesmith.errors import RecipeError, RunError
from tunesmith.events import Stage
from tunesmith.progress import Progress
from tunesmith.pulse import listening, pulse
from tunesmith.run.folder import EventLog
from tunesmith.terminal import show_fault
from tunesmith.written import write_whole


def test_a_file_is_replaced_and_no_link_is_written_through(tmp_path: Path) -> None:
    other, target = tmp_path / "other", tmp_path / "page.html"
    other.write_text("precious", encoding="utf-8")
    for link in (tmp_path / ".page.html.new", target):
        link.symlink_to(other)
    write_whole(target, (piece for piece in ("a", "b\n")), synced=True)
    assert target.read_text(encoding="utf-8") == "ab\n"
    assert not target.is_symlink()
    assert other.read_text(encoding="utf-8") == "precious"
    assert sorted(os.listdir(tmp_path)) == ["other", "page.html"]


def test_events_are_not_cut_off_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("precious", encoding="utf-8")
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "other")
    with pytest.raises(RunError, match="link"):
        EventLog(tmp_path / "events.jsonl", 0)
    assert (tmp_path / "other").read_text(encoding="utf-8") == "precious"


def test_a_pulse_is_heard_inside_alone() -> None:
    heard: list[tuple[int, int | None]] = []
    pulse(1)
    with listening(lambda done, whole: heard.append((done, whole))):
        pulse(2, 5)
    pulse(3)
    assert heard == [(2, 5)]


def test_long_work_says_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    with Progress(Console(width=100)) as progress:
        progress(Stage("reading the data"))
        for done in range(0, 40_000, 100):
            pulse(done, None if done < 20_000 else 40_000)
            now += 0.1
    assert capsys.readouterr().out.splitlines() == [
        "reading the data",
        "reading the data: 10,100",
        "reading the data: 20,200 of 40,000",
        "reading the data: 30,300 of 40,000",
    ]


def test_a_fault_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_fault(RecipeError("the column \x1b]0;owned\x07[bold]x\x1b[2J is unknown"))
    assert "the column ]0;owned[bold]x[2J is unknown" in capsys.readouterr().err

"""What a search reads of a trial's folder and takes away from it: only what is new, also over a slow network disk."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.run.studies import bare_recipe

from tunesmith.errors import DiskError
from tunesmith.run.folder import locked, write_recipe
from tunesmith.run.search import trial_folder as folders
from tunesmith.run.search.trial_work import TrialWork


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """A resolved trial of 8 steps."""
    folder = tmp_path / "trials" / "0001"
    folder.mkdir(parents=True)
    write_recipe(folder, bare_recipe(tmp_path), {})
    (folder / "manifest.json").write_text("{}")
    return folder


def step(number: int, loss: float = 0.5) -> str:
    return json.dumps({"event": "step", "step": number, "epoch": number / 8, "loss": loss}) + "\n"


def evaluated(number: int, score: float = 0.5) -> str:
    return json.dumps({"event": "evaluated", "step": number, "scores": {"accuracy": score}}) + "\n"


def add(folder: Path, text: str) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write(text)


def work_on(place: Path, **judged: Any) -> TrialWork:
    """The trials of a search that judges nothing, and says nothing."""
    book = SimpleNamespace(main=SimpleNamespace(name="accuracy"), space=(), trial=lambda n: place / f"{n:04d}")
    trials = SimpleNamespace(judge=lambda *given: None, **judged)
    return TrialWork(SimpleNamespace(book=book, say=lambda line: None), trials)  # type: ignore[arg-type]


def test_each_event_is_parsed_once_however_often_a_search_looks(trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def loads(text: Any) -> Any:
        parsed.append(text)
        return json.JSONDecoder().decode(text if isinstance(text, str) else text.decode())

    monkeypatch.setattr(folders, "json", SimpleNamespace(loads=loads, dumps=json.dumps))
    work = work_on(trial.parent)
    for number in range(1, 51):
        add(trial, step(number))
        work._look(1)
    assert sum("step" in str(text) for text in parsed) == 50


def test_evaluations_are_the_same_read_at_once_or_as_they_come(trial: Path) -> None:
    course = folders.Course(trial)
    assert course.read() == []
    add(trial, step(1) + step(2) + evaluated(2, 0.25) + step(3)[:9])
    assert [(seen.step, seen.share) for seen in course.read()] == [(2, 25)]
    add(trial, step(3)[9:] + step(4) + evaluated(4, 0.75))
    assert [(seen.step, seen.scores["accuracy"]) for seen in course.read()] == [(2, 0.25), (4, 0.75)]
    assert course.read() == folders.course(trial)


@pytest.mark.parametrize("grown", [False, True])
def test_a_log_that_was_cut_is_read_anew(trial: Path, grown: bool) -> None:
    course = folders.Course(trial)
    add(trial, step(1) + step(2) + evaluated(2) + step(3) + step(4) + evaluated(4, 0.5))
    assert len(course.read()) == 2
    (trial / "events.jsonl").write_text(step(1) + step(2) + evaluated(2))
    if grown:  # past what was read, between two looks
        add(trial, step(3, 0.123456789) + step(4, 0.123456789) + evaluated(4, 0.75) + step(5) + evaluated(5))
    found = course.read()
    assert found == folders.course(trial)
    assert [seen.scores["accuracy"] for seen in found] == ([0.5, 0.75, 0.5] if grown else [0.5])


def test_a_trial_that_goes_on_from_before_its_first_evaluation_breaks_nothing(trial: Path) -> None:
    work = work_on(trial.parent)
    add(trial, step(1) + step(2) + evaluated(2))
    assert not work._look(1)
    (trial / "events.jsonl").write_text(step(1))  # killed before the state after its evaluation was saved
    assert not work._look(1)


def test_a_gate_that_is_stale_for_a_moment_is_read_anew(trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.set_gate(trial, 4, go_on=False)
    left, read = [2], Path.read_text

    def stale(path: Path, *given: Any, **named: Any) -> str:
        if path.name == folders.GATE and left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path, *given, **named)

    monkeypatch.setattr(Path, "read_text", stale)
    assert folders.gate(trial) == (4, False)
    left[0] = 1
    assert folders.has_gate(trial)
    monkeypatch.setattr(folders, "PAUSE", 0.0, raising=False)
    left[0] = 1_000_000
    with pytest.raises(DiskError, match="Stale"):
        folders.gate(trial)


def test_a_folder_without_a_gate_has_none(trial: Path) -> None:
    assert not folders.has_gate(trial)
    assert folders.gate(trial) == (0, True)


def test_what_only_a_run_needs_that_goes_on_is_taken_away_unless_somebody_works_there(trial: Path) -> None:
    for name in (".work/process-0", "checkpoints/step-00000002"):
        (trial / name).mkdir(parents=True)
        (trial / name / "file").write_bytes(b"large")
    with locked(trial):
        folders.clear(trial)
    assert (trial / ".work" / "process-0" / "file").is_file()
    folders.clear(trial)
    assert {path.name for path in trial.iterdir()} == {"recipe.yaml", "manifest.json", ".lock"}
    folders.clear(trial.parent / "0002")  # a trial that never came to have a folder
    assert not (trial.parent / "0002").exists()

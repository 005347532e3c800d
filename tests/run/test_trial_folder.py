"""What a search reads of a trial's folder and takes away from it: only what is new, also over a slow network disk."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.run.studies import bare_recipe

from tunesmith.errors import DiskError, RunError
from tunesmith.run.folder import locked, write_recipe
from tunesmith.run.search import trial_folder as folders
from tunesmith.run.search.launch import Ended
from tunesmith.run.search.trial_work import OTHER_EXAMPLES, TrialWork
from tunesmith.types import MainScore


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """A resolved trial of 8 steps."""
    folder = tmp_path / "trials" / "0001"
    folder.mkdir(parents=True)
    write_recipe(folder, bare_recipe(tmp_path), {})
    (folder / "manifest.json").write_text('{"split": {"validation": "abc"}}')
    return folder


def step(number: int, loss: float = 0.5) -> str:
    return json.dumps({"event": "step", "step": number, "epoch": number / 8, "loss": loss}) + "\n"


def evaluated(number: int, score: float = 0.5) -> str:
    return json.dumps({"event": "evaluated", "step": number, "scores": {"accuracy": score}}) + "\n"


def add(folder: Path, text: str) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write(text)


def work_on(place: Path, *, forgetting: bool = False, **trials: Any) -> TrialWork:
    """The trials of a search that judges nothing, and says nothing."""
    book = SimpleNamespace(main=SimpleNamespace(name="accuracy"), space=(), validation="abc", forgetting=forgetting,
                           trial=lambda n: place / f"{n:04d}")  # fmt: skip
    made = SimpleNamespace(**{"judge": lambda *given: None, **trials})
    crew = SimpleNamespace(expect_stop=lambda folder: None, ask=lambda folder: None)
    return TrialWork(SimpleNamespace(book=book, crew=crew, say=lambda line: None), made)  # type: ignore[arg-type]


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


def finished(folder: Path, **scores: Any) -> Path:
    """The same, finished: its delivered state is that of step 8; the test part says that 0.5 was forgotten."""
    add(folder, step(8) + json.dumps({"event": "evaluated", "step": 8,
                                      "scores": {"accuracy": 0.75, "forgotten/news": 0.25}}) + "\n")  # fmt: skip
    old = {"news": {"forgetting": {"initial_minus_last": [0.5, 0.4, 0.6]}}}
    (folder / "scores.json").write_text(json.dumps({"best_step": 8, "old_tasks": old, **scores}))
    return folder


MAIN = MainScore("accuracy", "higher")


def test_what_was_forgotten_is_that_of_the_evaluation_of_the_delivered_state(trial: Path) -> None:
    assert folders.delivered(finished(trial), MAIN, forgetting=True) == folders.Delivered(0.75, 0.25)


def test_a_retention_that_moves_the_weights_is_judged_by_validation_at_the_point_it_chose(trial: Path) -> None:
    curve = [{"share": share, "new_score": 0.7, "forgetting": {"news": share / 5, "spam": share / 10}}
             for share in (0.0, 0.3, 1.0)]  # fmt: skip
    retention = {"name": "wise_ft", "share": 0.3, "curve": curve}
    made = finished(trial, validation={"accuracy": 0.7}, retention=retention)
    assert folders.delivered(made, MAIN, forgetting=True) == folders.Delivered(0.7, 0.06)


@pytest.mark.parametrize("retention", [{"name": "other"}, {"share": 0.5, "curve": [{"share": 1.0, "forgetting": {}}]}])
def test_without_validation_what_was_forgotten_is_never_taken_from_the_test(
    trial: Path, retention: dict[str, Any]
) -> None:
    made = finished(trial, validation={"accuracy": 0.7}, retention=retention)
    with pytest.raises(ValueError, match="no old task was scored on validation examples at the point"):
        folders.delivered(made, MAIN, forgetting=True)


def test_evaluations_without_an_old_task_leave_nothing_to_judge_forgetting_by(trial: Path) -> None:
    add(trial, step(8) + evaluated(8))
    old = {"news": {"forgetting": {"initial_minus_last": [0.5, 0.4, 0.6]}}}
    (trial / "scores.json").write_text(json.dumps({"best_step": 8, "old_tasks": old}))
    with pytest.raises(ValueError, match="no old task was scored on validation examples when it was evaluated"):
        folders.delivered(trial, MAIN, forgetting=True)


def test_a_search_for_forgetting_ends_at_the_first_evaluation_that_scores_no_old_task(trial: Path) -> None:
    first = trial.rename(trial.with_name("0000"))
    add(first, step(2) + evaluated(2))
    with pytest.raises(RunError, match=r"forgetting is an objective(.|\n)*forgetting\.old_tasks"):
        work_on(first.parent, forgetting=True)._look(0)


def test_a_trial_with_other_validation_examples_is_judged_by_nothing_and_stopped(trial: Path) -> None:
    judged: list[int] = []
    ended: list[tuple[int, str, str]] = []

    def end(number: int, state: str, values: tuple[float, ...], *, reason: str, seconds: float) -> None:
        ended.append((number, state, reason))

    work = work_on(trial.parent, judge=lambda number, *given: judged.append(number), end=end)
    (trial / "manifest.json").write_text('{"split": {"validation": "another"}}')
    folders.set_gate(trial, 0, go_on=True)
    add(trial, step(2) + evaluated(2))
    assert work._look(1)
    assert folders.gate(trial) == (2, False), "it leaves at its first evaluation"
    work._ended(Ended(trial, "stopped", "", 1.0))
    assert judged == []
    assert ended == [(1, "failed", OTHER_EXAMPLES)]


def test_a_trial_with_other_validation_examples_is_asked_to_leave_where_nothing_is_pruned(trial: Path) -> None:
    asked: list[Path] = []
    work = work_on(trial.parent)
    work.session.crew.ask = asked.append  # type: ignore[method-assign, assignment]
    (trial / "manifest.json").write_text('{"split": {"validation": "another"}}')
    add(trial, step(2) + evaluated(2))
    work._look(1)
    assert asked == [trial]


def test_an_old_task_of_one_part_is_told_as_one_that_chose_on_what_is_reported(trial: Path) -> None:
    main = {"name": "accuracy", "better": "higher"}
    two = {"main_score": main, "part": "test", "highest_part": "validation", "rows": 90}
    one = {"main_score": main, "part": "test", "highest_part": "test", "rows": 50}
    (trial / "scores.json").write_text(json.dumps({"best_step": 8, "old_tasks": {"news": two, "spam": one}}))
    assert folders.chosen_on(trial, forgetting=True) == ("spam",)
    assert folders.chosen_on(trial, forgetting=False) == ()
    assert folders.old_rows(trial, ["accuracy"]) is None, "of news it is not known"
    (trial / "predictions").mkdir()
    np.savez(trial / "predictions" / "old_before.npz", **{"news/validation": np.zeros((40, 2))})
    assert folders.old_rows(trial, ["accuracy"]) == 40
    assert folders.old_rows(trial, ["agreement"]) is None

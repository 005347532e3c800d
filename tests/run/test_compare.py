"""A comparison: what it plans and refuses, that runs are shared, and that no kill changes its table."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.console import Console
from tests.run.studies import PROGRAM, bare_recipe, real_study, run_of, study
from tests.run.worker import SERVER, write_reviews
from tests.run.worker import recipe as real_recipe

from tunesmith.cli_compare import compare as command
from tunesmith.errors import FolderInUseError, InterruptedRun, RecipeError, RunError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.cell import CellBegan, CellEvent, CellLearns, Outcome
from tunesmith.run.compare.compare import Comparison, compare
from tunesmith.run.compare.planned import plan, split_list
from tunesmith.run.compare.verdict import summed_up
from tunesmith.run.folder import locked
from tunesmith.terminal_study import StudyProgress, show_comparison


@pytest.fixture
def base(tmp_path: Path) -> Recipe:
    return bare_recipe(tmp_path)


def table(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    return found


def test_every_method_and_retention_gets_every_seed_and_the_same_split(base: Recipe, tmp_path: Path) -> None:
    planned, notes = plan(base, ["full", "lora:rank=16"], [], 3, tmp_path)
    assert [(p.method, p.seed) for p in planned] == [(m, s) for s in (0, 1, 2) for m in ("full", "lora:rank=16")]
    assert {p.cell.recipe.data.split.seed for p in planned} == {base.data.split.seed}
    assert [p.cell.recipe.train.seed for p in planned] == [p.seed for p in planned]
    assert planned[1].cell.recipe.as_dict()["method"]["rank"] == 16
    assert planned[1].folder.name.startswith("lora-rank=16-seed0-")
    assert notes == []


def test_the_recipes_own_method_keeps_its_options(base: Recipe, tmp_path: Path) -> None:
    own = base.changed("method=lora", "method.rank=32")
    ranks = [p.cell.recipe.as_dict()["method"]["rank"] for p in plan(own, ["lora", "lora:rank=4"], [], 1, tmp_path)[0]]
    assert ranks == [32, 4]


def test_what_is_the_same_stands_once(base: Recipe, tmp_path: Path) -> None:
    planned, notes = plan(base, ["lora", "lora:rank=8", "lora"], [], 2, tmp_path)
    assert [p.method for p in planned] == ["lora", "lora"]
    assert notes == ["lora:rank=8 is the same as lora and stands once."]


def test_every_fault_is_told_before_anything_runs(base: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as told:
        compare(
            base, methods=["loraa", "full", "lora:rnk=3"], retentions=["non"], folder=tmp_path / "s", program=("no",)
        )
    text = str(told.value)
    assert 'unknown method "loraa". Did you mean "lora"?' in text
    assert '--methods lora:rnk=3: method.rnk: is not an option of "lora". Did you mean "rank"?' in text
    assert "--retentions non" in text
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"methods": []}, "names nothing to compare"),
        ({"methods": ["full"], "seeds": 0}, "at least one seed"),
        ({"methods": ["full"], "seeds": [1, 1]}, "each once"),
        ({"methods": ["full"], "jobs": 0}, "at least one run"),
        ({"methods": ["full"], "settings": ["method.rank=4"]}, "would reach no run"),
        ({"methods": ["full"], "settings": ["output=x"]}, "--output"),
        ({"methods": ["full"], "retentions": ["none:x=1"]}, "none has no options"),
    ],
)
def test_what_cannot_be_meant_is_refused(base: Recipe, tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        compare(base, folder=tmp_path / "s", program=("no",), **given)


def test_commas_inside_brackets_do_not_split() -> None:
    assert split_list("full, lora:targets=[query,value]:rank=4,") == ["full", "lora:targets=[query,value]:rank=4"]
    assert split_list("") == []


def test_a_comparison_makes_its_runs_and_shares_them_with_the_next(base: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    first = compare(base, methods=["full", "head"], seeds=1, folder=folder, jobs=2, program=PROGRAM)
    assert [row.name for row in first.rows] == ["full", "head"]
    assert first.exit_code == 0
    assert first.page.is_file()
    assert "full is best here" in first.verdict
    assert table(folder)["verdict"] == list(first.sentences)
    assert all(each["state"] == "finished" for each in table(folder)["cells"])
    began: list[CellEvent] = []
    second = compare(base, methods=["head", "lora"], seeds=1, folder=folder, program=PROGRAM, on_event=began.append)
    assert [e.cell.name for e in began if isinstance(e, CellBegan)] == ["lora-seed0"]
    assert any("2 runs shared this machine" in note for note in second.notes)  # those of head were made so
    assert len(list((folder / "cells").glob("*/scores.json"))) == 3


def test_runs_that_nothing_can_be_judged_by_are_told_after_the_first(base: Recipe, tmp_path: Path) -> None:
    none = base.changed("data.split.validation=0", "data.split.test=0")
    with pytest.raises(RunError, match="no held-out examples"):
        compare(none, methods=["full", "head", "lora"], seeds=1, folder=tmp_path / "s", program=PROGRAM)
    assert len(list((tmp_path / "s" / "cells").glob("*/scores.json"))) == 1


def test_a_failed_run_loses_no_other_and_gives_the_exit_code(base: Recipe, tmp_path: Path) -> None:
    found = compare(base, methods=["full", "ia3"], seeds=1, folder=tmp_path / "s", program=PROGRAM)
    assert found.exit_code == 2
    assert [(row.name, len(row.runs), len(row.failed)) for row in found.rows] == [("full", 1, 0), ("ia3", 0, 1)]
    console = Console(record=True, width=200)
    show_comparison(found, console)
    text = console.export_text()
    assert "failed  ia3, seed 0: ia3 finds no layer here." in text
    assert "forgetting" in text
    assert str(found.page) in text


def test_exit_codes_are_those_of_the_failed_runs_where_they_agree(tmp_path: Path) -> None:
    def code(*codes: int) -> int:
        outcomes = tuple(Outcome(tmp_path, "failed" if each else "finished", each) for each in codes)
        return Comparison(tmp_path, (), (), (), (), (), outcomes).exit_code

    assert [code(0, 0), code(0, 76), code(74, 74), code(74, 76), code(2, 0), code(-9)] == [0, 76, 74, 2, 2, 2]


def test_two_comparisons_do_not_work_in_one_folder(base: Recipe, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with locked(tmp_path / "s"), pytest.raises(FolderInUseError):
        compare(base, methods=["full"], seeds=1, folder=tmp_path / "s", program=PROGRAM)


def test_a_signal_ends_it_resumably(base: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PAUSE", "0.06")

    def interrupt(event: CellEvent) -> None:
        if isinstance(event, CellLearns) and event.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "s"
    with pytest.raises(InterruptedRun, match="2 of 2 runs to go"):
        compare(base, methods=["full", "lora"], seeds=1, folder=folder, program=PROGRAM, on_event=interrupt)
    assert [each["state"] for each in table(folder)["cells"]] == ["interrupted"] * 2
    assert "2 runs have not ended yet" in (folder / "compare.html").read_text(encoding="utf-8")
    monkeypatch.setenv("FAKE_PAUSE", "0.01")
    assert compare(base, methods=["full", "lora"], seeds=1, folder=folder, program=PROGRAM).exit_code == 0


def test_progress_names_every_cell(base: Recipe, tmp_path: Path) -> None:
    console = Console(record=True, width=120, force_terminal=False, file=open(os.devnull, "w"))  # noqa: SIM115
    with StudyProgress(console) as progress:
        compare(base, methods=["full", "ia3"], seeds=1, folder=tmp_path / "s", program=PROGRAM, on_event=progress)
    text = console.export_text()
    for told in ("full-seed0: begins", "full-seed0: done", "ia3-seed0: failed (2) ia3 finds no layer here."):
        assert told in text


def test_the_table_tells_all_where_the_window_is_narrow() -> None:
    rows = [summed_up("prefix_tuning", "replay", [run_of([1.0] * 90 + [0.0] * 10, lost=[0.05, -0.04, 0.06])])]
    console = Console(record=True, width=80)
    show_comparison(Comparison(Path("s"), tuple(rows), (), ("Said.",), (), (), ()), console)
    text = console.export_text()
    for told in ("with replay", "0.900", "5.0", "[−4.0, 6.0]", "10 s", "500 MiB", "1 MiB", "learned", "seeds: 1"):
        assert told in text


@pytest.mark.slow
def test_a_comparison_killed_ten_times_ends_with_the_same_table(tmp_path: Path) -> None:
    """The stand-in's answers follow from the steps that it learned, so one lost or taken twice would show."""
    run_study(tmp_path / "whole")
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 1_000_000))
    print(f"KILL_SEED={seed}")
    draw, killed = random.Random(seed), tmp_path / "killed"
    cells = killed / "study" / "cells"
    for _ in range(10):
        parent = SERVER.Process(target=study, args=(str(killed), 0.25))
        parent.start()
        before = states(cells)
        end = time.monotonic() + 60
        while states(cells) == before and parent.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.6))
        assert parent.is_alive(), "it ended before it was killed ten times"
        parent.kill()
        parent.join()
    assert not (killed / "study" / "compare.html").exists()
    run_study(killed)
    assert len(list(cells.glob("*/scores.json"))) == 8
    for key in ("rows", "pairs", "verdict", "front_over"):
        assert table(killed / "study")[key] == table(tmp_path / "whole" / "study")[key]


def run_study(place: Path) -> None:
    process = SERVER.Process(target=study, args=(str(place), 0.01))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def states(cells: Path) -> str:
    """What all cells have learned so far."""
    return "".join(file.read_text() for file in sorted(cells.glob("*/state.json")))


@pytest.mark.slow
def test_a_real_comparison_killed_once_compares_two_methods(
    tiny_folders: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = real_recipe(tiny_folders("bert"), write_reviews(tmp_path / "reviews.csv", rows=160))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    parent = SERVER.Process(target=real_study, args=(str(tmp_path / "recipe.yaml"), str(tmp_path / "study")))
    parent.start()
    end = time.monotonic() + 120
    while not list((tmp_path / "study").glob("cells/*/checkpoints/*")) and time.monotonic() < end:
        assert parent.is_alive()
        time.sleep(0.02)
    parent.kill()
    parent.join()
    with pytest.raises(typer.Exit) as left:
        command([str(tmp_path / "recipe.yaml")], methods="head,lora:rank=2", seeds=1, output=tmp_path / "study")
    assert left.value.exit_code == 0
    out = capsys.readouterr().out
    assert "lora:rank=2" in out
    assert "spread over seeds is unknown" in " ".join(out.split())
    found = table(tmp_path / "study")
    assert [row["method"] for row in found["rows"]] == ["head", "lora:rank=2"]
    assert all(row["cost"]["peak_mib"] > 50 and row["score"][0] is not None for row in found["rows"])
    assert found["pairs"][0]["paired"] is True
    assert (tmp_path / "study" / "compare.html").is_file()

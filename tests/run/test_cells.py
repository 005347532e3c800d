"""Runs in processes of their own: made once, gone on with, waited for, kept when they fail, dead with their parent."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.run.studies import PROGRAM, bare_recipe, run_cell

from tunesmith.run.compare import cells
from tunesmith.run.compare.cell import Cell, CellBegan, CellEnded, CellEvent, CellLearns, CellWaits, make_cell
from tunesmith.run.compare.cells import run_cells

SLOW = {"FAKE_PAUSE": "0.15"}


@pytest.fixture
def cell(tmp_path: Path) -> Callable[..., Cell]:
    base = bare_recipe(tmp_path)
    return lambda *settings: make_cell(" ".join(settings) or "cell", base.changed(*settings), {})


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_cell_makes_a_run_and_is_not_made_again(cell: Callable[..., Cell], tmp_path: Path) -> None:
    seen: list[CellEvent] = []
    one = run_cell(cell(), tmp_path / "cells" / "one", program=PROGRAM, on_event=seen.append)
    assert (one.state, one.made, one.exit_code) == ("finished", True, 0)
    assert any(isinstance(event, CellLearns) and 0 < event.share <= 1 for event in seen)
    kinds = [type(event).__name__ for event in seen if not isinstance(event, CellLearns)]
    assert kinds == ["CellsPlanned", "CellBegan", "CellEnded"]
    again = run_cell(cell(), tmp_path / "cells" / "one", program=("no", "program"))
    assert (again.state, again.made) == ("finished", False)


def test_what_decides_a_run_decides_its_key(cell: Callable[..., Cell], tmp_path: Path) -> None:
    same = cell("method=lora")
    assert cell("method=lora", "method.rank=8").key == same.key  # a default written out
    assert cell("output=elsewhere").key == same.key
    assert len({same.key, cell("method.rank=16").key, cell("train.seed=1").key, cell("method=full").key}) == 4
    (tmp_path / "data.csv").write_text("text,label\na,good\nc,bad\n", encoding="utf-8")
    assert cell("method=lora").key != same.key
    changed = cell("method=lora").key
    (tmp_path / "model" / "weights").write_bytes(b"new")
    assert cell("method=lora").key != changed


def test_a_failed_cell_is_kept_with_its_reason_and_tried_again(cell: Callable[..., Cell], tmp_path: Path) -> None:
    work = [(cell(f"method={name}"), tmp_path / "cells" / name) for name in ("ia3", "full", "head")]
    outcomes = run_cells(work, jobs=2, program=PROGRAM)
    assert [each.state for each in outcomes] == ["failed", "finished", "finished"]
    assert outcomes[0].exit_code == 2
    assert outcomes[0].reason == "ia3 finds no layer here.\nTake another method."
    kept = tmp_path / "cells" / "ia3.failed.json"
    assert json.loads(kept.read_text())["exit_code"] == 2
    again = run_cells(work, program=PROGRAM, environment={"FAKE_MENDED": "1"})
    assert [each.state for each in again] == ["finished"] * 3
    assert not kept.exists()
    assert [each.made for each in again] == [True, False, False]


def test_what_the_process_said_is_in_a_log(cell: Callable[..., Cell], tmp_path: Path) -> None:
    run_cell(cell("method=ia3"), tmp_path / "cells" / "ia3", program=PROGRAM)
    text = (tmp_path / "cells" / "ia3.log").read_text()
    assert text.startswith("--- fit ")
    assert "ia3 finds no layer here." in text


def test_a_process_that_was_killed_says_so(cell: Callable[..., Cell], tmp_path: Path) -> None:
    outcome = run_cell(cell(), tmp_path / "cells" / "one", program=("sh", "-c", "kill -9 $$"))
    assert (outcome.state, outcome.exit_code) == ("failed", -9)
    assert "SIGKILL" in outcome.reason
    assert "memory" in outcome.reason


def test_a_folder_in_use_is_waited_for(
    cell: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "LOOK_AGAIN", 0.1)
    folder = tmp_path / "cells" / "one"
    folder.mkdir(parents=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    seen: list[CellEvent] = []

    def see(event: CellEvent) -> None:
        seen.append(event)
        if isinstance(event, CellWaits):
            threading.Timer(0.3, os.close, [lock]).start()

    assert run_cell(cell(), folder, program=PROGRAM, on_event=see).state == "finished"
    assert sum(isinstance(event, CellWaits) for event in seen) == 1


def test_stopping_saves_and_the_next_start_goes_on(cell: Callable[..., Cell], tmp_path: Path) -> None:
    folder, asked = tmp_path / "cells" / "one", []

    def see(event: CellEvent) -> None:
        if isinstance(event, CellLearns) and event.step >= 2:
            asked.append(event.step)

    work = [(cell(), folder), (cell("method=full"), tmp_path / "cells" / "two")]
    outcomes = run_cells(work, program=PROGRAM, stop=lambda: bool(asked), on_event=see, environment=SLOW)
    assert [(each.state, each.exit_code) for each in outcomes] == [("interrupted", 75)] * 2
    assert not (folder / "scores.json").exists()
    assert not (tmp_path / "cells" / "two").exists()
    began: list[CellEvent] = []
    assert [e.state for e in run_cells(work, program=PROGRAM, on_event=began.append)] == ["finished"] * 2
    assert [event.resumed for event in began if isinstance(event, CellBegan)] == [True, False]
    assert len((folder / "events.jsonl").read_text().splitlines()) == 8


def test_an_exception_leaves_no_process_behind(cell: Callable[..., Cell], tmp_path: Path) -> None:
    folder = tmp_path / "cells" / "one"

    def fail(event: CellEvent) -> None:
        if isinstance(event, CellLearns):
            raise ValueError("as it may be")

    with pytest.raises(ValueError, match="as it may be"):
        run_cell(cell(), folder, program=PROGRAM, on_event=fail, environment=SLOW)
    assert is_free(folder)


def test_jobs_are_at_most_so_many_at_a_time(cell: Callable[..., Cell], tmp_path: Path) -> None:
    going, most = 0, 0

    def see(event: CellEvent) -> None:
        nonlocal going, most
        going += isinstance(event, CellBegan) - isinstance(event, CellEnded)
        most = max(most, going)

    work = [(cell(f"train.seed={n}"), tmp_path / "cells" / str(n)) for n in range(4)]
    run_cells(work, jobs=2, program=PROGRAM, on_event=see)
    assert most == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_a_cell_dies_with_its_parent(tmp_path: Path) -> None:
    bare_recipe(tmp_path)
    code = (
        "import sys; from pathlib import Path; from tests.run.studies import *;"
        "from tunesmith.run.compare.cell import make_cell;"
        "place = Path(sys.argv[1]);"
        "run_cell(make_cell('c', bare_recipe(place), {}), place / 'cells' / 'one', program=PROGRAM,"
        " environment={'FAKE_PAUSE': '30'})"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2])
    folder = tmp_path / "cells" / "one"
    wait_for(lambda: (folder / "state.json").exists(), 60)
    assert not is_free(folder)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: is_free(folder), 5)


def is_free(folder: Path) -> bool:
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True

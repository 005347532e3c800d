"""Making the runs of a study: each cell in a folder and a process of its own, some at a time.

What stands in a folder tells how far its run is: `scores.json`, finished; `manifest.json`, begun, and gone on with;
neither, made from the start. So a study that was killed at any moment goes on by being started again. A run that failed
leaves `NAME.failed.json` beside its folder, keeps no other run back, and is tried again at the next start.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.errors import FolderInUseError, InterruptedRun
from tunesmith.run.compare.cell import (
    Cell,
    CellBegan,
    CellEnded,
    CellEvent,
    CellLearns,
    CellScored,
    CellsPlanned,
    CellWaits,
    OnEvent,
    Outcome,
)
from tunesmith.run.compare.child import PROGRAM, Child, beside
from tunesmith.run.compare.environment import free_gpu, gpus_for
from tunesmith.run.folder import write_json

POLL = 0.05
"""Seconds between two looks at the processes."""
LOOK_AGAIN = 1.0
"""Seconds between two looks at a folder that another process works in."""


def run_cells(
    work: Sequence[tuple[Cell, Path]],
    *,
    jobs: int = 1,
    stop: Callable[[], bool] = lambda: False,
    on_event: OnEvent | None = None,
    program: Sequence[str] = PROGRAM,
    environment: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Make every run that is not there yet, `jobs` at a time, in order; an outcome for each, in the order of `work`.
    Where there are several GPUs, runs at the same time are spread over them.

    When `stop()` becomes true, running cells are asked to save and leave and no other begins. An exception from it or
    from `on_event` ends them the same way. DiskError where the folder of the cells cannot be written.
    """
    tell = on_event or (lambda event: None)
    waiting, held = deque(range(len(work))), dict[int, float]()
    running, done = dict[int, Child](), dict[int, Outcome]()
    gpus = gpus_for(jobs)

    tell(CellsPlanned(len(work)))

    def settle(number: int, outcome: Outcome) -> None:
        done[number] = outcome
        tell(CellEnded(work[number][0], outcome))

    try:
        while len(done) < len(work):
            if stop():
                for child in [child for child in running.values() if not child.asked]:
                    child.stop()
                for number in [*waiting, *held]:
                    settle(number, Outcome(work[number][1], "interrupted", InterruptedRun.exit_code, "not begun"))
                waiting.clear()
                held.clear()
            waiting.extend(number for number in list(held) if _free(work[number][1], held, number))
            while waiting and len(running) < jobs:
                number = waiting.popleft()
                cell, folder = work[number]
                if (folder / "scores.json").is_file():
                    beside(folder, ".failed.json").unlink(missing_ok=True)
                    settle(number, Outcome(folder, "finished", made=False))
                    continue
                gpu = free_gpu(gpus, [child.gpu for child in running.values()])
                running[number] = child = Child(cell.recipe, folder, program=program, environment=environment, gpu=gpu)
                tell(CellBegan(cell, folder, child.mode == "resume"))
            for number, child in list(running.items()):
                cell, folder = work[number]
                for event in _news(cell, child):
                    tell(event)
                code = child.poll()
                if code is None:
                    continue
                del running[number]
                if code == FolderInUseError.exit_code:
                    held[number] = time.monotonic() + LOOK_AGAIN
                    tell(CellWaits(cell, folder))
                else:
                    settle(number, _outcome(child, code))
            if running or held:
                time.sleep(POLL)
    finally:
        for child in running.values():
            child.end()
    return [done[number] for number in range(len(work))]


def _free(folder: Path, held: dict[int, float], number: int) -> bool:
    """Whether the folder that was in use is no longer; looked at once in a while."""
    if time.monotonic() < held[number]:
        return False
    held[number] = time.monotonic() + LOOK_AGAIN
    try:
        handle = os.open(folder / ".lock", os.O_RDWR)
    except OSError:
        handle = None
    try:
        if handle is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        if handle is not None:
            os.close(handle)
    del held[number]
    return True


def _news(cell: Cell, child: Child) -> Iterator[CellEvent]:
    """Of the steps since the last look only the newest; every evaluation."""
    step: dict[str, Any] | None = None
    for event in child.news():
        if event.get("event") == "step":
            step = event
        elif event.get("event") == "evaluated":
            yield CellScored(cell, int(event["step"]), event["scores"], bool(event["best"]))
    if step is not None:
        yield CellLearns(cell, child.share(step), int(step["step"]), float(step["loss"]))


def _outcome(child: Child, code: int) -> Outcome:
    kept = beside(child.folder, ".failed.json")
    if code == 0 and (child.folder / "scores.json").is_file():
        kept.unlink(missing_ok=True)
        return Outcome(child.folder, "finished")
    if child.asked:
        return Outcome(child.folder, "interrupted", InterruptedRun.exit_code, "stopped; its state is saved")
    outcome = Outcome(child.folder, "failed", code, child.reason(code))
    write_json(kept, {"exit_code": code, "reason": outcome.reason, "log": child.log.name})
    return outcome

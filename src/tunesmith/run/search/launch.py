"""Who makes the runs of a search: processes of this machine, or those of a Ray cluster (run/launch_ray.py).

An engine starts a run and hands back its `Handle`. `Crew` holds the runs that are under way and says how each ended; it
goes on by itself with one that was stopped from outside, since a run that was stopped is no run that failed.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from tunesmith.errors import DiskError, FolderInUseError, InterruptedRun
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.child import Child
from tunesmith.run.compare.environment import free_gpu, gpus_for, threads_for
from tunesmith.run.search.trial_folder import is_finished

PROGRAM: Final = (sys.executable, "-m", "tunesmith.run.search.trial_process")
RESTARTS: Final = 2
"""So often a run is gone on with that somebody else stopped, before it counts as failed."""
IN_USE: Final = 60
"""So many looks, half a second apart, at a folder that a process of an earlier search still holds."""


MOMENT: Final = 3.0
"""Seconds that runs have to save their state before they are asked a second time, which does not wait."""


class Handle(Protocol):
    """A run under way."""

    def poll(self) -> int | None:
        """Its exit code once it has ended; below 0 the signal that ended it."""

    def stop(self) -> None:
        """Ask it to save its state and leave."""

    def end(self) -> None:
        """See that it is gone."""

    def reason(self, code: int) -> str:
        """Why it ended, in its own words."""
        ...


class Engine(Protocol):
    """What makes runs."""

    def start(self, recipe: Recipe, folder: Path) -> Handle:
        """Make the run in `folder`, or go on with it."""
        ...

    def close(self) -> None:
        """Nothing more will be started."""


class Local:
    """Processes of this machine; each ends with this one. `jobs` runs share its cores, where the recipe leaves threads
    to `auto`, and are spread over its GPUs."""

    def __init__(self, jobs: int = 1, program: Sequence[str] = PROGRAM) -> None:
        self.program = tuple(program)
        self._environment, self._gpus = threads_for(jobs), gpus_for(jobs)
        self._under_way: list[Child] = []

    def start(self, recipe: Recipe, folder: Path) -> Handle:
        """A process of its own."""
        self._under_way = [child for child in self._under_way if child.poll() is None]
        gpu = free_gpu(self._gpus, [child.gpu for child in self._under_way])
        child = Child(recipe, folder, program=self.program, environment=self._environment, gpu=gpu)
        self._under_way.append(child)
        return child

    def close(self) -> None:
        """Nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. stopped: we asked it to, and it goes on another time. seconds: since it was started."""

    folder: Path
    state: Literal["finished", "failed", "stopped"]
    reason: str
    seconds: float


class Crew:
    """The runs that are under way."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._handles: dict[Path, Handle] = {}
        self._recipes: dict[Path, Recipe] = {}
        self._began: dict[Path, float] = {}
        self._asked: set[Path] = set()
        self._tries: Counter[tuple[Path, str]] = Counter()

    def __len__(self) -> int:
        return len(self._recipes)

    def __contains__(self, folder: object) -> bool:
        return folder in self._recipes

    def folders(self) -> list[Path]:
        """Where the runs under way are."""
        return list(self._recipes)

    def start(self, recipe: Recipe, folder: Path) -> None:
        """Start a run, or go on with it."""
        self._recipes[folder] = recipe
        self._began.setdefault(folder, time.monotonic())
        self._handles[folder] = self.engine.start(recipe, folder)

    def ask(self, folder: Path | None = None) -> None:
        """Ask one run, or all, to save and leave; it is then `stopped`."""
        for each in [folder] if folder is not None else list(self._handles):
            if each in self._handles and each not in self._asked:
                self._asked.add(each)
                self._handles[each].stop()

    def expect_stop(self, folder: Path) -> None:
        """The run leaves by itself, told so at its gate."""
        self._asked.add(folder)

    def ended(self) -> Iterator[Ended]:
        """Every run that has ended since the last call. DiskError when the disk refused: no other run will do better.

        A run that ended by a signal that nobody here sent is gone on with, `RESTARTS` times."""
        for folder, handle in list(self._handles.items()):
            code = handle.poll()
            if code is None:
                continue
            reason = handle.reason(code) if code else ""
            if code == DiskError.exit_code:
                raise DiskError(f"{folder}: {reason}")
            if folder not in self._asked and not is_finished(folder) and self._goes_on(folder, code):
                continue
            del self._handles[folder]
            del self._recipes[folder]
            began = self._began.pop(folder)
            state: Literal["finished", "failed", "stopped"] = "failed"
            if is_finished(folder):
                state = "finished"
            elif folder in self._asked:
                state = "stopped"
            self._asked.discard(folder)
            yield Ended(folder, state, reason, time.monotonic() - began)

    def close(self) -> None:
        """End every run: asked first, with a moment to save its state; one that does not leave is ended."""
        for handle in self._handles.values():
            handle.stop()
        until = time.monotonic() + MOMENT
        while time.monotonic() < until and any(handle.poll() is None for handle in self._handles.values()):
            time.sleep(0.05)
        for handle in self._handles.values():
            handle.end()
        self._handles.clear()
        self._recipes.clear()
        self.engine.close()

    def _goes_on(self, folder: Path, code: int) -> bool:
        kind = "in use" if code == FolderInUseError.exit_code else "stopped"
        most = IN_USE if kind == "in use" else RESTARTS
        if code not in (FolderInUseError.exit_code, InterruptedRun.exit_code) and code >= 0:
            return False
        self._tries[folder, kind] += 1
        if self._tries[folder, kind] > most:
            return False
        if kind == "in use":
            time.sleep(0.5)
        self._handles[folder] = self.engine.start(self._recipes[folder], folder)
        return True

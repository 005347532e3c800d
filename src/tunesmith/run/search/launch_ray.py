"""Runs on a Ray cluster: `pip install 'tunesmith[ray]'`, `tunesmith search ... --engine ray`.

Each run is a Ray task that holds one process, the same as on this machine; Ray says where there is room. The search's
folder must be one that every machine sees at the same path. Ray's own Tune is not used: trials are drawn, pruned and
counted by the search itself, so that a search may go on with another engine than it began with.

The cluster is the one that `RAY_ADDRESS` names, else one of this machine. `TUNESMITH_RAY_CPUS` says how many processors
a run takes, else one; where the cluster has GPUs, each run takes one of them. When the search ends, however it ended,
Ray ends its tasks, and their processes with them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.child import Child
from tunesmith.run.search.launch import PROGRAM, Handle

STOP: Final = ".stop"
"""A file of this name in a run's folder asks its task to have the run saved and ended."""
LOOK: Final = 0.1
"""Seconds between two looks of a task at its process and that file."""


class RayEngine:
    """Tasks of a Ray cluster. address: of the cluster; None: `RAY_ADDRESS`, else a cluster of this machine."""

    def __init__(self, address: str | None = None, program: Sequence[str] | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise RecipeError('--engine ray needs Ray: pip install "tunesmith[ray]".') from error
        self._ray = ray
        self.program = tuple(program or PROGRAM)
        self._mine = not ray.is_initialized()
        if self._mine:
            ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
        cpus = float(os.environ.get("TUNESMITH_RAY_CPUS", "1"))
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0  # Ray hides them from tasks that ask for none
        paths = os.pathsep.join(path for path in sys.path if path)
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
        self._task = ray.remote(**options, runtime_env={"env_vars": {"PYTHONPATH": paths}})(work)

    def start(self, recipe: Recipe, folder: Path) -> Handle:
        """A task that makes the run in `folder`."""
        folder = folder.resolve()
        (folder / STOP).unlink(missing_ok=True)
        return _Task(self._ray, self._task.remote(recipe.as_dict(), str(folder), self.program), folder)

    def close(self) -> None:
        """Leave the cluster, where it was joined for this."""
        if self._mine:
            self._ray.shutdown()


def work(recipe: dict[str, Any], folder: str, program: Sequence[str]) -> tuple[int, str]:
    """What a worker does: hold one process until it ends. Its exit code, and why it ended so; a fault that keeps the
    process from being started is told in the same way, since raised here it would look as if Ray had lost the task."""
    try:
        child = Child(Recipe.make(recipe), Path(folder), program=program)
    except TunesmithError as fault:
        return fault.exit_code, str(fault)
    try:
        while (code := child.poll()) is None:
            if (Path(folder) / STOP).is_file() and not child.asked:
                child.stop()
            time.sleep(LOOK)
        return code, child.reason(code) if code else ""
    finally:
        child.end()


class _Task:
    """One run on the cluster."""

    def __init__(self, ray: Any, reference: Any, folder: Path) -> None:
        self._ray, self._reference, self._folder = ray, reference, folder
        self._ended: tuple[int, str] | None = None

    def poll(self) -> int | None:
        """Its exit code once it has ended. A task that Ray lost (a machine that is gone) reads as killed."""
        if self._ended is None:
            done, _ = self._ray.wait([self._reference], timeout=0)
            if not done:
                return None
            try:
                self._ended = self._ray.get(self._reference)
            except self._ray.exceptions.RayError as error:
                self._ended = (-9, f"Ray lost it: {str(error).splitlines()[0]}")
        return self._ended[0]

    def stop(self) -> None:
        """Ask the run to save and leave."""
        if self._ended is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / STOP).touch()

    def end(self) -> None:
        """See that it is gone."""
        self.stop()
        done, _ = self._ray.wait([self._reference], timeout=20)
        if not done:
            self._ray.cancel(self._reference, force=True)

    def reason(self, code: int) -> str:
        """Why it ended, in its own words."""
        return self._ended[1] if self._ended else ""

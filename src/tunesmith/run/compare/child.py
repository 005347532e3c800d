"""A run in a process of its own: it dies with its parent, writes a log, and its events are read as they come.

The process is an ordinary `python -m tunesmith fit` (or `resume`, where its folder holds a run that began). So its peak
memory is its own, and what it leaves is what anybody's run leaves. It stands in a session of its own: Ctrl-C in a
terminal reaches the parent alone, which passes it on once. On Linux the kernel kills it with the thread that started
it (prctl PR_SET_PDEATHSIG), however that ended; elsewhere it runs on and its folder's lock keeps others off it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tunesmith.lifetime import bound_to
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.environment import unlaunched
from tunesmith.train.checkpoint import disk_faults, write_atomically

PROGRAM = (sys.executable, "-m", "tunesmith")
PATIENCE = 10.0
"""Seconds that a process has to leave after a second request, before it is killed."""
_REASON = 2_000  # characters of a reason that are kept


class Child:
    """The process of one run, under way. `mode` is fit or resume; `asked` whether it was asked to stop; `gpu` the one
    that it sees, by its name in CUDA_VISIBLE_DEVICES, empty for all that this process sees."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        program: Sequence[str] = PROGRAM,
        environment: Mapping[str, str] | None = None,
        gpu: str = "",
    ) -> None:
        self.folder, self.gpu = folder, gpu
        own = {"PYTHONUNBUFFERED": "1", **(environment or {}), **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}
        self.mode = "resume" if (folder / "manifest.json").exists() else "fit"
        self.asked = False
        self.log = beside(folder, ".log")
        self.began = time.monotonic()
        self._events, self._read, self._length = folder / "events.jsonl", 0, 0.0
        words = [*program, "resume", str(folder)]
        with disk_faults(self.log):
            folder.parent.mkdir(parents=True, exist_ok=True)
            if self.mode == "fit":
                written = beside(folder, ".yaml")
                write_atomically(written, yaml.safe_dump(recipe.as_dict(), allow_unicode=True, sort_keys=False))
                words = [*program, "fit", str(written), "--output", str(folder)]
            with self.log.open("ab") as log:
                log.write(f"--- {self.mode} {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
                log.flush()
                self._from = log.tell()
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**unlaunched(os.environ), **own},
                    start_new_session=True,
                    preexec_fn=bound_to(os.getpid()),
                )

    def poll(self) -> int | None:
        """The exit code, once the process has ended; below 0 the number of the signal that ended it."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to save its state and leave (exit code 75). Asked a second time, it leaves at once."""
        again, self.asked = self.asked, True
        if self._process.poll() is None:  # a second SIGTERM soon after is taken for the first (see run/stopping.py)
            self._process.send_signal(signal.SIGINT if again else signal.SIGTERM)

    def end(self) -> None:
        """See that it is gone: asked first, killed with all that it started if it stays."""
        if self._process.poll() is None:
            self.stop()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def news(self) -> list[dict[str, Any]]:
        """Events that its events.jsonl gained since the last call, whole lines only. What a resumed run takes back
        and goes through again is told again."""
        try:
            if self._events.stat().st_size < self._read:
                self._read = 0
            with self._events.open("rb") as file:
                file.seek(self._read)
                piece = file.read()
        except OSError:
            return []
        whole = piece[: piece.rfind(b"\n") + 1]
        self._read += len(whole)
        found = []
        for line in whole.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def share(self, step: Mapping[str, Any]) -> float:
        """How much of the training is done after this step event, 0 to 1; by the run's resolved recipe."""
        if not self._length:
            try:
                train = yaml.safe_load((self.folder / "recipe.yaml").read_text(encoding="utf-8"))["train"]
            except (OSError, yaml.YAMLError, KeyError, TypeError):
                return 0.0
            self._by = "step" if train.get("steps") else "epoch"
            length = train.get("steps") or train.get("epochs")
            self._length = float(length) if isinstance(length, int | float) else 0.0
        return min(1.0, float(step.get(self._by, 0)) / self._length) if self._length else 0.0

    def reason(self, code: int) -> str:
        """Why it ended as it did, in the words that it said last."""
        with self.log.open("rb") as log:
            log.seek(self._from)
            lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        if code < 0:
            name = signal.Signals(-code).name
            more = "; often the system had no memory left for it (fewer --jobs need less)" if -code == 9 else ""
            return f"ended by {name}{more}"
        said: list[str] = []
        while lines and lines[-1].startswith("  "):  # a fault is said as one indented block
            said.insert(0, lines.pop().strip())
        return ("\n".join(said) or (lines[-1] if lines else "it said nothing"))[-_REASON:]


def beside(folder: Path, ending: str) -> Path:
    """A file that belongs to a run and stands beside its folder, which is the run's own."""
    return folder.parent / f"{folder.name}{ending}"

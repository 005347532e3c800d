"""The run folder: its files, its lock, and Finished, a run that ended well. The one hand-over between processes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tunesmith.errors import FolderInUseError, RunError
from tunesmith.events import Evaluated, Step
from tunesmith.recipe.recipe import Recipe
from tunesmith.train.checkpoint import disk_faults, write_atomically

if TYPE_CHECKING:
    from tunesmith.train.device import Device


@dataclass(frozen=True)
class Finished:
    """A finished run. `scores` is scores.json, `recipe` the resolved recipe as plain values."""

    folder: Path
    scores: Mapping[str, Any]
    recipe: Mapping[str, Any]


def open_run(folder: str | Path) -> Finished:
    """A run that ended well. RunError, with what to do, when there is none in that folder."""
    folder = Path(folder)
    recipe = read_recipe(folder)
    file = folder / "scores.json"
    if not file.is_file():
        raise RunError(f"{folder}: this run has not finished. Go on with: tunesmith resume {folder}")
    try:
        scores = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise RunError(f"{file} is damaged: {error}. Take the whole run folder from where it was made.") from error
    if not isinstance(scores, dict):
        raise RunError(f"{file} is damaged: it holds no scores. Take the whole run folder from where it was made.")
    return Finished(folder, scores, recipe.as_dict())


HEADER = "# Every value of this run. Filled in for `auto`:"
WRITTEN = ("recipe.yaml", "events.jsonl", "scores.json", "report.html", "best", "checkpoints", "predictions")
"""What a run writes and somebody else may have written, too."""


def read_recipe(folder: Path) -> Recipe:
    """The resolved recipe of a run folder. RunError when the folder holds no run."""
    file = folder / "recipe.yaml"
    if not file.is_file():
        raise RunError(f"{folder} is not a run folder: it has no recipe.yaml. `tunesmith fit` makes one.")
    return Recipe.read(file)


def new_folder(recipe: Recipe, folder: Path | None) -> Path:
    """The folder of a new run, made: the one asked for, else runs/TASK-METHOD-MODEL with the next free number.

    RunError when it already holds a run that began; what a start left behind that failed before is overwritten.
    """
    if folder is None and recipe.output != "auto":
        folder = Path(recipe.output)
    if folder is not None:
        if (folder / "manifest.json").exists():
            raise RunError(
                f"{folder} holds a run already. Go on with it: tunesmith resume {folder}; or name another --output."
            )
        if foreign := _foreign(folder):
            raise RunError(
                f"{folder} holds files that a run would write over ({', '.join(foreign)}), and none of its own. "
                "Name another --output, such as a new folder in it."
            )
        with disk_faults(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder
    model = re.sub(r"[^A-Za-z0-9]+", "-", recipe.model.name.rsplit(":", 1)[-1])[-40:].strip("-")
    name = f"{type(recipe.task).name}-{type(recipe.method).name}-{model}"
    with disk_faults(Path("runs")):
        for number in range(1, 1_000_000):
            path = Path("runs") / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir(parents=True)
                return path
            except FileExistsError:
                continue
    raise RunError("runs/ is full")


LOOKS = 30
"""So often, a tenth of a second apart, a process looks for what another one has made."""


def agreed_folder(device: Device, recipe: Recipe, folder: Path | None) -> Path:
    """The `new_folder` that the first process makes, in every process."""
    place: Path = device.agree(new_folder(recipe, folder) if device.is_main else None)
    return place


def _foreign(folder: Path) -> list[str]:
    """Files in the way of a new run that no start of a run left there."""
    recipe = folder / "recipe.yaml"
    if recipe.is_file():
        with recipe.open(encoding="utf-8", errors="replace") as file:
            if file.readline().strip() == HEADER:
                return []
    return [name for name in WRITTEN if (folder / name).exists()]


def remove_failed_start(folder: Path) -> None:
    """Take away what a start wrote that failed by the person's input before anything was learned. Rows that could not
    be used stay in `quarantine.jsonl`; a run that had begun stays whole."""
    if (folder / "manifest.json").exists():
        return
    rows = next(iter(sorted((folder / ".work").glob("process-*/quarantine.jsonl"))), None)
    if rows is not None and rows.stat().st_size:
        os.replace(rows, folder / "quarantine.jsonl")
    shutil.rmtree(folder / ".work", ignore_errors=True)
    (folder / "recipe.yaml").unlink(missing_ok=True)
    if {p.name for p in folder.iterdir()} <= {".lock"}:
        shutil.rmtree(folder, ignore_errors=True)


_held: set[int] = set()
_watching: list[bool] = []


def _let_go() -> None:
    """In a forked child (a worker that makes batches): the lock is its parent's and must end with it."""
    while _held:
        os.close(_held.pop())


@contextmanager
def locked(folder: Path, *, hold: bool = True) -> Iterator[None]:
    """Hold the folder's lock. FolderInUseError (exit code 73) if another process holds it; the lock of a process that
    died is gone with it. hold: False for processes that work under another's lock."""
    if not hold:
        yield
        return
    with disk_faults(folder):
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FolderInUseError(
                f"{folder} is in use by another run. Wait for it, or name another --output."
            ) from error
        if not _watching:
            os.register_at_fork(after_in_child=_let_go)
            _watching.append(True)
        _held.add(handle)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


class EventLog:
    """events.jsonl: one line an event. A checkpoint keeps its length, so that a resumed run goes on at the very byte.

    writes: False for processes that leave the file to another.
    """

    def __init__(self, path: Path, length: int = 0, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        if writes:
            if path.is_symlink():
                raise RunError(f"{path} is a link; a run writes its events into a file of its own. Put the file there.")
            with disk_faults(path):
                path.touch()
                os.truncate(path, length)

    def add(self, event: Step | Evaluated) -> None:
        """Append one event and hand it to the system."""
        if not self.writes:
            return
        kind = "step" if isinstance(event, Step) else "evaluated"
        with disk_faults(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": kind, **asdict(event)}) + "\n")

    def length(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size


def shared_by_all(device: Device, folder: Path) -> None:
    """RunError where a process, on another machine, does not see the run folder that the first one made."""
    device.wait()
    for _ in range(LOOKS):  # a network's file system may be a moment late
        if (folder / "recipe.yaml").is_file():
            break
        time.sleep(0.1)
    if device.any_process(not (folder / "recipe.yaml").is_file()):
        raise RunError(
            f"{folder} is not seen by every process. On several machines the run folder must lie on a disk that all of "
            "them share: name such a place with --output."
        )


def write_recipe(folder: Path, recipe: Recipe, origins: Mapping[str, str]) -> None:
    """recipe.yaml: every value resolved; a comment says where each computed one came from."""
    head = "".join(f"# {path}: {origin}\n" for path, origin in sorted(origins.items()))
    body = yaml.safe_dump(recipe.as_dict(), allow_unicode=True, sort_keys=False)
    write_atomically(folder / "recipe.yaml", f"{HEADER}\n{head}\n{body}")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON file in one rename."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=True) + "\n")

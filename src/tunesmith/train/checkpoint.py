"""Checkpoints: a folder of safetensors and JSON with a manifest, written so that a crash can never leave a half one.

A checkpoint is written to a temporary name, every file and the folder fsynced, then renamed. Loading verifies the
manifest's sizes and sha256; the newest good one is used, a damaged one is named and passed over. Nothing is pickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.errors import DiskError, RunError
from tunesmith.written import write_whole

_PREFIX = "step-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint holds: named groups of tensors (`learned`, `method`, `optimizer`) and plain JSON values."""

    folder: Path
    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    values: Mapping[str, Any]


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]
) -> Path:
    """Write `folder`/step-00000012 atomically and return its path. DiskError when the disk refuses; what was there
    before is untouched then."""
    final = folder / f"{_PREFIX}{step:08d}"
    temporary = folder / f".writing-{step:08d}"
    with disk_faults(final):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for group, named in tensors.items():
            save_file(_savable(named), temporary / f"{group}.safetensors")
        _write_json(temporary / "values.json", {"step": step, **values})
        files = sorted(p for p in temporary.iterdir() if p.name != "manifest.json")
        manifest = {p.name: {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in files}
        _write_json(temporary / "manifest.json", manifest)
        for path in temporary.iterdir():
            _sync(path)
        _sync(temporary)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        _sync(folder)
    return final


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint; RunError that names the fault if its manifest does not hold."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        for name, entry in manifest.items():
            file = path / Path(name).name
            if file.stat().st_size != entry["bytes"] or file_sha256(file) != entry["sha256"]:
                raise RunError(f"{file}: its size or sha256 is not the one in the manifest")
        values = json.loads((path / "values.json").read_text(encoding="utf-8"))
        tensors = {p.stem: load_file(p) for p in sorted(path.glob("*.safetensors")) if p.name in manifest}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: not a whole checkpoint ({error})") from error
    return Checkpoint(path, int(values["step"]), tensors, values)


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """The newest good checkpoint, or None; and what was wrong with each one that was passed over."""
    damaged: list[str] = []
    for path in sorted(checkpoint_paths(folder), reverse=True):
        try:
            return load_checkpoint(path), tuple(damaged)
        except RunError as error:
            damaged.append(str(error))
    return None, tuple(damaged)


def checkpoint_paths(folder: Path) -> Iterator[Path]:
    """Every checkpoint folder, whole or not, but none that is still being written."""
    return (p for p in folder.glob(f"{_PREFIX}*") if p.is_dir())


def checkpoint_at(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` stands."""
    return folder / f"{_PREFIX}{step:08d}"


def prune(folder: Path, *, keep: int, always: set[int]) -> None:
    """Delete all but the newest `keep` checkpoints and those of the steps in `always`, and left-over half ones."""
    paths = sorted(checkpoint_paths(folder))
    for path in paths[: max(0, len(paths) - keep)]:
        if int(path.name.removeprefix(_PREFIX)) not in always:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".writing-*"):
        shutil.rmtree(path, ignore_errors=True)


def restore_tensors(targets: Mapping[str, Tensor], saved: Mapping[str, Tensor], *, what: str) -> None:
    """Copy saved values into live tensors, in place. RunError lists names or shapes that do not agree."""
    missing, unknown = sorted(set(targets) - set(saved)), sorted(set(saved) - set(targets))
    odd = [n for n in targets if n in saved and targets[n].shape != saved[n].shape]
    if missing or unknown or odd:
        raise RunError(
            f"{what} does not fit this model: missing {missing[:3]}, not known {unknown[:3]}, other shape {odd[:3]}."
        )
    with torch.no_grad():
        for name, tensor in targets.items():
            tensor.copy_(saved[name])


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: str | Iterable[str]) -> None:
    """`write_whole`, on the disk when this returns. DiskError if refused."""
    with disk_faults(path):
        write_whole(path, content, synced=True)


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turn a refusing disk into DiskError with what to do."""
    try:
        yield
    except OSError as error:
        reasons = {errno.ENOSPC: "the disk is full", errno.EROFS: "the disk is read-only", errno.EDQUOT: "over quota"}
        reason = reasons.get(error.errno or 0, str(error))
        raise DiskError(f"cannot write {path}: {reason}. Make room or choose another `output`, then resume.") from error


def _savable(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().cpu().contiguous().clone() for name, t in named.items()}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=True), encoding="utf-8")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""A checkpoint is whole or it is not there; damage is found and passed over; nothing is pickled."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.errors import DiskError, RunError
from tunesmith.train.checkpoint import (
    checkpoint_paths,
    load_checkpoint,
    newest_checkpoint,
    prune,
    restore_tensors,
    save_checkpoint,
)


def save(folder: Path, step: int, value: float = 1.0) -> Path:
    return save_checkpoint(folder, step, {"learned": {"w": torch.full((3, 2), value)}}, {"progress": {"step": step}})


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tensors = {"w": torch.randn(5, 3), "b": torch.randn(3).bfloat16(), "n": torch.tensor(7.0)}
    path = save_checkpoint(tmp_path, 12, {"learned": tensors, "optimizer": {}}, {"best": float("nan"), "x": 1})
    found = load_checkpoint(path)
    assert found.step == 12
    assert all(torch.equal(found.tensors["learned"][name], tensor) for name, tensor in tensors.items())
    assert found.tensors["optimizer"] == {}
    assert {p.suffix for p in path.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "manifest", "empty"])
def test_a_damaged_checkpoint_is_named_and_an_older_good_one_used(damage: str, tmp_path: Path) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2, 2.0)
    file = newest / "learned.safetensors"
    raw = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(raw[:-1])
    elif damage == "flip":
        raw[-1] ^= 1
        file.write_bytes(raw)
    elif damage == "gone":
        file.unlink()
    elif damage == "manifest":
        (newest / "manifest.json").write_text("[]", encoding="utf-8")
    else:
        for each in newest.iterdir():
            each.unlink()
    found, faults = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert str(newest) in faults[0]


def test_a_half_written_checkpoint_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert [p.name for p in checkpoint_paths(tmp_path)] == ["step-00000001"]
    prune(tmp_path, keep=2, always=set())
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_a_full_disk_is_exit_code_74_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="full") as fault:
        save(tmp_path, 2)
    assert fault.value.exit_code == 74
    found, _ = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        save(tmp_path, step)
    prune(tmp_path, keep=2, always={2})
    assert sorted(p.name for p in checkpoint_paths(tmp_path)) == ["step-00000002", "step-00000004", "step-00000005"]


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"missing \['b'\].*not known \['c'\].*other shape \['a'\]"):
        restore_tensors({"a": torch.ones(2), "b": torch.ones(1)}, {"a": torch.ones(3), "c": torch.ones(1)}, what="x")


def test_the_manifest_cannot_point_outside(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "../../etc/passwd": {"bytes": 1, "sha256": ""}}))
    with pytest.raises(RunError):
        load_checkpoint(path)

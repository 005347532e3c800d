"""manifest.json: what is needed to repeat a run, and what must be the same for one to be resumed."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tunesmith.errors import RunError
from tunesmith.models.quantised import bits_of
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.folder import write_json, write_recipe
from tunesmith.run.setup import Ready

_PACKAGES = (
    "tunesmith",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "numpy",
    "safetensors",
    "torchvision",
    "timm",
    "pillow",
    "bitsandbytes",
)


def manifest(ready: Ready) -> dict[str, Any]:
    """Versions, threads, seed, hashes of model files and data, which rows are in which part, labels, origins."""
    source, dataset = ready.pretrained.source, ready.dataset
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "processor": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device": _device(ready.device.device),
        "threads": torch.get_num_threads(),
        "processes": ready.device.processes,
        "seed": ready.recipe.train.seed,
        "model": {
            "name": source.name,
            "path": source.path,
            "sha256": dict(source.sha256),
            "licence": source.licence,
            "library": source.library,
            "architecture": source.architecture,
            "weights": source.weights,
            "bits": bits_of(ready.pretrained.model) or None,
        },
        "data": {"sha256": dict(dataset.summary.sha256), "summary": asdict(dataset.summary)},
        "labels": list(dataset.labels),
        "known_labels": list(ready.pretrained.known),
        "multi_label": dataset.multi_label,
        "split": {name: _membership(getattr(dataset, name)) for name in ("train", "validation", "test")},
        "origins": dict(ready.origins),
        **_cut(ready),
    }


def _cut(ready: Ready) -> dict[str, Any]:
    """How many texts are longer than what is read of them; nothing for pictures."""
    limit = getattr(ready.recipe.task, "max_length", None)
    return {} if limit is None else {"cut": {"max_length": limit, "share": float((ready.lengths > limit).mean())}}


def write_known(folder: Path, recipe: Recipe, known: dict[str, Any]) -> None:
    """The resolved recipe with its origins, and the manifest."""
    write_recipe(folder, recipe, known["origins"])
    write_json(folder / "manifest.json", known)


def check_same(folder: Path, known: dict[str, Any]) -> None:
    """For a resumed run: RunError that names what is no longer as it was. Known origins are carried over."""
    file = folder / "manifest.json"
    if not file.is_file():
        return
    old: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    changed = [
        what
        for what, then, now in (
            ("the model's files", old["model"]["sha256"], known["model"]["sha256"]),
            ("the data's files", old["data"]["sha256"], known["data"]["sha256"]),
            ("the split", old["split"], known["split"]),
            ("the labels", old["labels"], known["labels"]),
            ("the number of processes", old["processes"], known["processes"]),
            ("the device", old.get("device", known["device"]), known["device"]),
        )
        if then != now
    ]
    if changed:
        raise RunError(
            f"{folder} cannot go on exactly: {' and '.join(changed)} changed since it began. "
            "Put them back as they were, or start a new run."
        )
    known["origins"] = {**old.get("origins", {}), **known["origins"]}


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _membership(examples: Any) -> str:
    """Hash of which rows these are; examples that keep no row numbers are known by file and line."""
    if hasattr(examples, "membership_sha256"):
        return str(examples.membership_sha256())
    lines = "\n".join(f"{e.file}:{e.line}" for e in examples)
    return hashlib.sha256(lines.encode()).hexdigest()

"""A candidate measured in a process of its own, once: what was measured before, on the same sample, is read again."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.errors import ModelError
from tunesmith.models.cards import ModelCard
from tunesmith.run.compare.environment import unlaunched
from tunesmith.run.select.candidate import JOB, RESULT, ROWS
from tunesmith.run.select.sample import Sample
from tunesmith.train.checkpoint import disk_faults, write_atomically

LOG = "log.txt"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@dataclass(frozen=True, slots=True)
class Measured:
    """What `candidate.measure` gave, and the features [examples, features] by how they were taken."""

    result: Mapping[str, Any]
    features: Mapping[str, np.ndarray]


def measured_apart(card: ModelCard, sample: Sample, work: Path) -> Measured:
    """Measure a candidate in a process that ends with this one. ModelError, with the reason, where it is of no use."""
    job = {
        "task": sample.options,
        "path": os.path.realpath(card.path),
        "files": _state(Path(card.path)),
        "labels": list(sample.labels),
        "multi_label": sample.multi_label,
        "rows": str((work / ROWS).resolve()),
        "rows_sha256": hashlib.sha256((work / ROWS).read_bytes()).hexdigest(),
    }
    text = json.dumps(job, sort_keys=True)
    place = work / "candidates" / hashlib.sha256(str(job["path"]).encode()).hexdigest()[:16]
    with disk_faults(place):
        place.mkdir(parents=True, exist_ok=True)
    if not ((place / RESULT).is_file() and (place / JOB).is_file() and (place / JOB).read_text("utf-8") == text):
        (place / RESULT).unlink(missing_ok=True)
        write_atomically(place / JOB, text)
        _run(place)
    result = json.loads((place / RESULT).read_text(encoding="utf-8"))
    if "fault" in result:
        raise ModelError(str(result["fault"]))
    features = {way: np.load(place / name) for way, name in result["features"].items()}
    broken = [way for way, values in features.items() if not np.isfinite(values).all()]
    if broken:
        raise ModelError(f"its features ({broken[0]}) are not finite numbers: the weights are damaged")
    return Measured(result, features)


def _run(place: Path) -> None:
    """Start the process and wait; whatever ends this wait ends the process."""
    words = [sys.executable, "-m", "tunesmith.run.select.candidate", str(place), str(os.getpid())]
    with disk_faults(place), (place / LOG).open("wb") as log:
        environment = {**unlaunched(os.environ), **OFFLINE}
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    try:
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if code or not (place / RESULT).is_file():
        raise ModelError(_why(code, place / LOG))


def _why(code: int, log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = lines[-1].strip()[:500] if lines else "it said nothing"
    if code < 0:
        name = signal.Signals(-code).name
        more = ", most often for want of memory" if code == -signal.SIGKILL else ""
        return f"its process was ended by {name}{more}"
    return f"its process failed: {said}"


def _state(path: Path) -> list[Any]:
    """Names, sizes and times of the model's files: they tell when one has changed."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    return [[file.name, (stat := file.stat()).st_size, stat.st_mtime_ns] for file in files]

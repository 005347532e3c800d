"""What a run really cost, stage by stage, to be held against its forecast; kept across a resume."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith.written import write_whole

STAGES = ("before", "training", "evaluations", "checkpoints", "ending")
"""Of `Forecast.seconds_of`, in their order. Beside them stand `old_tasks` and `answers`, which count to `before`."""


class Spent:
    """Wall seconds of each stage of a run, by name; kept in a file, so that a resumed run adds to what was there.

    Work that a killed run did and must do again is counted twice, as it was done twice.
    """

    def __init__(self, file: Path, *, writes: bool = True) -> None:
        self.file, self.writes = file, writes
        self.seconds: dict[str, float] = {}
        if file.is_file():
            try:
                self.seconds = {str(k): float(v) for k, v in json.loads(file.read_text(encoding="utf-8")).items()}
            except (ValueError, AttributeError, TypeError):  # cut off by a crash: the times before it are lost
                self.seconds = {}

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Count the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds to a stage. The file is written in one rename, without waiting for the disk."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if self.writes:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.file, json.dumps(self.seconds))


def against(forecast: Mapping[str, Any] | None, spent: Mapping[str, float], *, training: float) -> dict[str, Any]:
    """What scores.json keeps under `cost`, beside `seconds` (of training) and `peak_mib`: all `stages` as they were,
    their sum `whole_seconds`, and the forecast where there was one. training: seconds of all steps."""
    stages = {stage: spent.get(stage, 0.0) for stage in STAGES}
    stages["training"] += training
    stages["before"] += spent.get("old_tasks", 0.0) + spent.get("answers", 0.0)
    found: dict[str, Any] = {"whole_seconds": sum(stages.values()), "stages": stages}
    return found if forecast is None else {**found, "forecast": dict(forecast)}


def spent_in(folder: Path, *, writes: bool) -> Spent:
    """What was spent so far on the run in `folder`. writes: False in all processes but the first."""
    return Spent(folder / ".work" / "spent.json", writes=writes)

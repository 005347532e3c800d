"""`kill -9` at random moments, for every method: the resumed run is the uninterrupted one, bit for bit."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.run.worker import events, finish, recipe, start, state, write_reviews

from tunesmith.methods.base import registry

PICTURES_ALONE = {"visual_prompt"}
"""Methods that no text model can use; test_picture_fit.py kills those."""

VARIANTS: list[str | dict[str, object]] = [
    *(name for name in registry.names() if name not in PICTURES_ALONE),
    {"name": "lora", "dropout": 0.1, "variant": "pissa"},
    {"name": "lora", "variant": "dora"},
    {"name": "lora", "variant": "olora"},
    {"name": "prefix_tuning", "projection": True},
]


@pytest.mark.parametrize("method", VARIANTS, ids=str)
def test_a_run_killed_three_times_ends_as_if_it_had_not_been(
    method: str | dict[str, object], tiny_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = recipe(tiny_folders("bert"), write_reviews(tmp_path / "reviews.csv"), method=method)
    assert finish(settings, tmp_path / "whole") == 0

    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 1_000_000))
    print(f"KILL_SEED={seed}")
    draw = random.Random(seed)
    log = tmp_path / "killed" / "events.jsonl"
    for _ in range(3):
        # A moment is so many events plus a random wait: within a step, a save, an evaluation, or before the first.
        lines, wait = draw.randint(0, 13), draw.uniform(0, 0.15)
        process = start(settings, tmp_path / "killed", pause=0.05)
        while process.is_alive() and not (log.exists() and log.read_bytes().count(b"\n") >= lines):
            time.sleep(0.002)
        time.sleep(wait)
        assert process.is_alive(), "the run ended before it could be killed"
        process.kill()
        process.join()
    assert finish(settings, tmp_path / "killed") == 0

    assert events(tmp_path / "killed") == events(tmp_path / "whole")
    assert state(tmp_path / "killed") == state(tmp_path / "whole")

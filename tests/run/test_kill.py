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

VARIANTS: list[str | dict[str, object]] = [
    *registry.names(),
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
    began = time.monotonic()
    assert finish(settings, tmp_path / "whole") == 0
    seconds = time.monotonic() - began

    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 1_000_000))
    print(f"KILL_SEED={seed}")
    draw = random.Random(seed)
    killed = 0
    for _ in range(3):
        process = start(settings, tmp_path / "killed", pause=0.01)
        process.join(draw.uniform(0.1, 1.0) * seconds)
        killed += process.is_alive()
        process.kill()
        process.join()
    assert killed, "no kill came in time"
    assert finish(settings, tmp_path / "killed") == 0

    assert events(tmp_path / "killed") == events(tmp_path / "whole")
    assert state(tmp_path / "killed") == state(tmp_path / "whole")

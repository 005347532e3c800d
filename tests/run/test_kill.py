"""`kill -9` at random moments, for every method: the resumed run is the uninterrupted one, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.run.worker import killed_and_whole, recipe, write_reviews

from tunesmith.methods.base import registry

ELSEWHERE = {"visual_prompt", "llama_adapter"}
"""Methods that no BERT can use; test_picture_fit.py and test_language_fit.py kill those."""

VARIANTS: list[str | dict[str, object]] = [
    *(name for name in registry.names() if name not in ELSEWHERE),
    {"name": "lora", "dropout": 0.1, "variant": "pissa"},
]
FURTHER: list[dict[str, object]] = [
    {"name": "lora", "variant": "dora"},
    {"name": "lora", "variant": "olora"},
    {"name": "prefix_tuning", "projection": True},
]
KILLED = [*VARIANTS, *(pytest.param(method, marks=pytest.mark.slow) for method in FURTHER)]


@pytest.mark.parametrize("method", KILLED, ids=str)
def test_a_run_killed_three_times_ends_as_if_it_had_not_been(
    method: str | dict[str, object], tiny_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = recipe(tiny_folders("bert"), write_reviews(tmp_path / "reviews.csv"), method=method)
    killed_and_whole(settings, tmp_path, steps=13)

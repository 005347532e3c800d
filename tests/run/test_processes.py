"""The same recipe on two processes gives what one process gives, beyond rounding: in float32, where that is little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.run.worker import events, finish, recipe, write_reviews


def test_two_processes_learn_what_one_does_dropout_included(
    tiny_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = recipe(tiny_folders("bert"), write_reviews(tmp_path / "reviews.csv"), method="full")
    settings["train"]["precision"] = "float32"
    assert finish(settings, tmp_path / "one") == 0
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    # --multi_gpu means "several processes by torchrun"; without a GPU they run on the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [*launch, "-m", "tunesmith", "fit", str(tmp_path / "recipe.yaml"), "--output", str(tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = events(tmp_path / "one"), events(tmp_path / "two")
    assert [e["step"] for e in two] == [e["step"] for e in one]
    losses = [[e["loss"] for e in found if e["event"] == "step"] for found in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)  # sums in another order
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["processes"] == 2
    assert done.stdout.count("reading the data") == 1, "more than one process speaks"

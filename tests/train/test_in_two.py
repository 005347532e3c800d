"""Two processes hold the same weights and statistics, and none waits for what the other never says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def in_two(folder: Path) -> list[dict[str, Any]]:
    """What each process found (see in_two.py)."""
    root = Path(__file__).parents[2]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(Path(__file__).with_name("in_two.py")), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


def test_two_processes_hold_the_same_and_none_waits_for_what_the_other_never_says(tmp_path: Path) -> None:
    one, two = in_two(tmp_path)
    assert (one["processes"], two["processes"]) == (2, 2)
    for each in (one, two):
        assert each["sums"] == [[2.0 * n + 1] * n for n in (3, 20, 1, 8)]
        assert each["averages"] == [pytest.approx(0.75), 0.0]
        assert each["first_alone"]
    assert (one["first_fails"], two["first_fails"]) == (False, True)
    assert one["learned"] == two["learned"], "weights and running statistics differ"
    assert len(set(one["learned"])) > 10
    (few, many), (few_too, many_too) = one["detected"], two["detected"]
    assert few == pytest.approx(few_too, rel=1e-5), "a picture's loss hangs on what the other process sees"
    assert many == pytest.approx(many_too, rel=1e-5)
    assert few != pytest.approx(many, rel=1e-2)

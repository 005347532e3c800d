"""A trial that takes milliseconds: words, files, gate and exit codes of `tunesmith.run.search.trial_process`, no model.

Its score after each evaluation follows from its recipe alone; it goes on from what its events.jsonl holds.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml

EVALUATIONS = 5
PAUSE = float(os.environ.get("FAKE_PAUSE", "0.004"))


def score(recipe: dict[str, Any], share: float) -> float:
    """Best at a learning rate of 3e-3 and rank 16; a seed moves it a little, always the same way."""
    train, method = recipe["train"], recipe["method"]
    rate = math.log10(train["learning_rate"] / 3e-3)
    rank = method.get("rank", 4)
    noise = 0.004 * math.sin(12.9898 * train["seed"] + 78.233 * rank)
    best = 0.95 - 0.2 * rate**2 - 0.01 * abs(math.log2(rank / 16)) + noise
    return best * (0.5 + 0.5 * share)


def wait(folder: Path, step: int) -> bool:
    """Whether to go on."""
    file = folder / ".gate.json"
    while file.is_file():
        found = json.loads(file.read_text())
        if found["step"] >= step:
            return bool(found["go_on"] or found["step"] > step)
        time.sleep(0.002)
    return True


def replace(file: Path, text: str) -> None:
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    os.replace(new, file)


def main(words: list[str]) -> int:
    folder = Path(words[-1])
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(words[1]) if words[0] == "fit" else folder / "recipe.yaml"
    recipe = yaml.safe_load(source.read_text())
    train = recipe["train"]
    for key, value in {"learning_rate": 2e-3, "epochs": 5.0, "batch_size": 16}.items():
        train[key] = value if train[key] == "auto" else train[key]
    if recipe["method"].get("dropout") == 0.5:
        sys.stderr.write("RecipeError\n  a dropout of 0.5 and this model do not go together\n")
        return 2
    replace(folder / "recipe.yaml", yaml.safe_dump(recipe))
    for name in (".work/process-0", "checkpoints/step-00000010"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = int(os.environ.get("FAKE_VALIDATION", "100"))
    manifest = {"multi_label": False, "split": {"validation": "abc"},
                "data": {"summary": {"split_sizes": {"train": 800, "validation": rows, "test": 100}}}}  # fmt: skip
    replace(folder / "manifest.json", json.dumps(manifest))
    if os.environ.get("FAKE_TEST") == "bad" or train["learning_rate"] > 0.5:
        sys.stderr.write("NotFiniteError\n  step 3: loss nan\n")
        return 76
    events = folder / "events.jsonl"
    done = events.read_bytes().count(b"\n") // 2 if events.is_file() else 0
    if events.is_file():  # half a pair of lines is made again, as a resumed run cuts its log at its checkpoint
        whole = b"".join(events.read_bytes().splitlines(keepends=True)[: 2 * done])
        events.write_bytes(whole)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(75) if stopped else stopped.append(number))
    log: list[float] = []
    for number in range(1, EVALUATIONS + 1):
        value = score(recipe, number / EVALUATIONS)
        log.append(value)
        if number > done:
            time.sleep(PAUSE)
            lines = [
                {"event": "step", "step": 10 * number, "epoch": number * train["epochs"] / EVALUATIONS, "seconds": 1.0},
                {"event": "evaluated", "step": 10 * number, "scores": scores(recipe, value), "seconds": 0.5},
            ]
            with events.open("a") as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))
        if not wait(folder, 10 * number):
            return 75
        if stopped:
            return 75
    finished = {"best_step": 10 * EVALUATIONS, "main_score": {"name": "accuracy", "better": "higher"},
                "after": {"accuracy": float(os.environ.get("FAKE_TEST_SCORE", "0.5"))},
                "old_tasks": {}}  # fmt: skip
    replace(folder / "scores.json", json.dumps(finished))
    shutil.rmtree(folder / ".work")
    return 0


def scores(recipe: dict[str, Any], value: float) -> dict[str, float]:
    """With an old task that a higher rate forgets more of."""
    found = {"accuracy": value}
    if recipe["forgetting"]["at_evaluations"]:
        found["forgotten/news"] = 10 * recipe["train"]["learning_rate"]
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

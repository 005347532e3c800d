"""A stand-in for `python -m tunesmith` that makes a run folder in a fraction of a second, as the real one would:
`fit RECIPE --output FOLDER` and `resume FOLDER`, with the folder's lock, a state saved step by step, and exit codes."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml

STEPS = 8
EXAMPLES = 120
SKILL = {"full": 0.90, "lora": 0.90, "head": 0.60, "bitfit": 0.85, "ia3": 0.8}
FORGETTING = {"full": 0.080, "lora": 0.005, "head": 0.0, "bitfit": 0.01, "ia3": 0.01}
SECONDS = {"full": 120.0, "lora": 40.0, "head": 6.0, "bitfit": 50.0, "ia3": 30.0}
PAUSE = float(os.environ.get("FAKE_PAUSE", "0.01"))


def main(words: list[str]) -> int:
    resumed = words[0] == "resume"
    folder = Path(words[1] if resumed else words[3])
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return fault("this run cannot go on", f"{folder} is in use by another run.", 73)
    if not resumed:
        if (folder / "manifest.json").exists():
            return fault("this run cannot go on", f"{folder} holds a run already.", 2)
        write(folder / "recipe.yaml", Path(words[1]).read_text(encoding="utf-8"))
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    method = recipe["method"]["name"]
    if method == "ia3" and not os.environ.get("FAKE_MENDED"):
        return fault("the model cannot be used", "ia3 finds no layer here.\nTake another method.", 2)
    write(folder / "manifest.json", json.dumps({"labels": ["bad", "good"], "threads": 1, "versions": {}}))
    learn(folder, recipe)
    finish(folder, recipe, method)
    return 0


def learn(folder: Path, recipe: dict[str, Any]) -> None:
    state = folder / "state.json"
    done = json.loads(state.read_text()) if state.exists() else []
    draw = random.Random(repr((recipe["method"], recipe["retention"], recipe["train"]["seed"])))
    drawn = [draw.random() for _ in range(STEPS)]
    write(folder / "events.jsonl", "".join(line(n, loss) for n, loss in enumerate(done, 1)))
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    for step in range(len(done) + 1, STEPS + 1):
        done.append(drawn[step - 1])
        with (folder / "events.jsonl").open("a") as events:
            events.write(line(step, done[-1]))
        write(state, json.dumps(done))
        time.sleep(PAUSE)
        if asked:
            sys.exit(75)


def line(step: int, loss: float) -> str:
    return json.dumps({"event": "step", "step": step, "epoch": step / STEPS, "loss": loss}) + "\n"


def finish(folder: Path, recipe: dict[str, Any], method: str) -> None:
    """Answers drawn from what was learned, so that a step lost or taken twice shows in the scores."""
    learned = json.loads((folder / "state.json").read_text())
    hard = random.Random(0)
    luck = random.Random(repr(learned))
    rows = []
    for number in range(EXAMPLES):
        label = "good" if number % 2 else "bad"
        right = 0.8 * hard.random() + 0.2 * luck.random() < SKILL[method]
        said = label if right else {"good": "bad", "bad": "good"}[label]
        rows.append({"text": f"text {number}", "label": label, "predicted": said, "file": "f.csv", "line": number + 2})
    (folder / "predictions").mkdir(exist_ok=True)
    write(folder / "predictions" / "test_after.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    value = sum(row["label"] == row["predicted"] for row in rows) / EXAMPLES
    kept = 0.3 if recipe["retention"] else 1.0
    lost = FORGETTING[method] * kept + 0.002 * luck.random()
    old = {"kind": "run", "definition": "accuracy of the old head on old examples",
           "main_score": {"name": "accuracy", "better": "higher"}, "before": {"accuracy": 0.95},
           "after": {"accuracy": 0.95 - lost},
           "forgetting": {"initial_minus_last": [lost, lost - 0.01, lost + 0.01], "off": [0.0, 0.0, 0.0]}}  # fmt: skip
    scores = {"main_score": {"name": "accuracy", "better": "higher"}, "part": "test", "before": {"accuracy": 0.5},
              "after": {"accuracy": value}, "intervals": {"after": {"accuracy": [value - 0.05, value + 0.05]}},
              "old_tasks": {"news": old},
              "cost": {"learned": 1000, "total": 10_000, "seconds": SECONDS[method] + luck.random(),
                       "peak_mib": 900.0, "file_mib": 1.5}}  # fmt: skip
    split = recipe["data"]["split"]
    if not split["validation"] and not split["test"]:
        scores = {name: told for name, told in scores.items() if name not in ("before", "after", "intervals", "part")}
    write(folder / "scores.json", json.dumps(scores))


def fault(title: str, text: str, code: int) -> int:
    print(title, *(f"  {each}" for each in text.splitlines()), sep="\n", file=sys.stderr)
    return code


def write(file: Path, text: str) -> None:
    new = file.with_name(f".{file.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

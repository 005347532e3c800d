"""Runs in processes of their own: a fork server that has imported everything once starts a fit in milliseconds."""

from __future__ import annotations

import csv
import gc
import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from tunesmith.errors import TunesmithError

SERVER = multiprocessing.get_context("forkserver")
# What a run imports when it first needs it, so that every forked process has it already.
LATE = ["peft", "sklearn.metrics", "scipy.optimize", "transformers.models.bert.modeling_bert", "jinja2.ext",
        "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
        "transformers.tokenization_utils_tokenizers", "transformers.integrations.peft", "timm", "PIL.Image",
        "tunesmith.data.readers.csv",
        "tunesmith.tasks.text_classification", "tunesmith.tasks.image_classification", "tunesmith.models.vision",
        "torchvision.transforms.v2.functional", "tunesmith.models.detectors.load", "tunesmith.models.causal",
        "tunesmith.models.chat_tokens", "tunesmith.tasks.preference", "transformers.models.llama.modeling_llama",
        "tunesmith.data.readers.jsonl"]  # fmt: skip
SERVER.set_forkserver_preload(["tunesmith.run.fit", "tests.run.worker", *LATE])

WORDS = {
    "good": ["good", "great", "very good film", "a good story"],
    "bad": ["bad", "dull", "not good", "the plot was bad"],
}


def write_reviews(path: Path, rows: int = 80, seed: int = 0) -> Path:
    """A small, learnable table of texts and labels, no text twice."""
    draw = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(rows):
            label = "good" if number % 2 else "bad"
            filler = " ".join(draw.choices(["film", "the", "actor", "end", "story", "was", "a"], k=draw.randint(1, 9)))
            writer.writerow([f"{draw.choice(WORDS[label])} {filler} {number}", label])
    return path


def recipe(model: Path, data: Path, /, **changes: Any) -> dict[str, Any]:
    """Settings of a tiny run: 12 steps with two evaluations and a checkpoint every two steps."""
    train = {"steps": 12, "batch_size": 8, "micro_batch_size": 3, "evaluate_every": 5, "checkpoint_every": 2,
             "threads": 1, "seed": 3}  # fmt: skip
    settings = {
        "task": {"name": "text_classification", "max_length": 24},
        "model": str(model),
        "data": {"path": str(data)},
        "method": "lora",
        "train": train,
    }
    for key, value in changes.items():
        settings[key] = {**train, **value} if key == "train" else value
    return settings


def work(settings: dict[str, Any], folder: str, pause: float = 0.0) -> None:
    """Begin or go on with a run, in the way of the command line: the exit code of a fault is the process's."""
    from tunesmith.recipe.recipe import Recipe
    from tunesmith.run import fit

    gc.freeze()  # the libraries that the server holds

    def slow(_event: object) -> None:
        time.sleep(pause)

    try:
        if (Path(folder) / "recipe.yaml").exists():
            fit.resume(Path(folder), slow)
        else:
            fit.fit(Recipe.make(settings), Path(folder), slow)
    except TunesmithError as fault:
        print(fault, file=sys.stderr)
        sys.exit(fault.exit_code)


def start(settings: dict[str, Any], folder: Path, *, pause: float = 0.0) -> Any:
    """The process of a run, under way."""
    process = SERVER.Process(target=work, args=(settings, str(folder), pause))
    process.start()
    return process


def finish(settings: dict[str, Any], folder: Path) -> int:
    """Run to the end and give the exit code."""
    process = start(settings, folder)
    process.join(120)
    assert process.exitcode is not None, "the run hangs"
    return int(process.exitcode)


def killed_and_whole(settings: dict[str, Any], place: Path, *, steps: int) -> None:
    """A run in `place`/whole, and one in `place`/killed that `kill -9` met three times at random moments:
    events, weights and optimizer state are the same, bit for bit."""
    assert finish(settings, place / "whole") == 0
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 1_000_000))
    print(f"KILL_SEED={seed}")
    draw = random.Random(seed)
    log = place / "killed" / "events.jsonl"
    for _ in range(3):
        # A moment is so many events plus a random wait: within a step, a save, an evaluation, or before the first.
        lines, wait = draw.randint(0, steps), draw.uniform(0, 0.06)
        process = start(settings, place / "killed", pause=0.05)
        while process.is_alive() and not (log.exists() and log.read_bytes().count(b"\n") >= lines):
            time.sleep(0.002)
        time.sleep(wait)
        assert process.is_alive(), "the run ended before it could be killed"
        process.kill()
        process.join()
    assert finish(settings, place / "killed") == 0
    assert events(place / "killed") == events(place / "whole")
    assert state(place / "killed") == state(place / "whole")


def events(folder: Path) -> list[dict[str, Any]]:
    """events.jsonl without wall times."""
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def state(folder: Path) -> dict[str, bytes]:
    """Every tensor of the newest checkpoint (learned, method, optimizer) and of what is delivered, as bytes."""
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    files = [*newest.glob("*.safetensors"), *(folder / "best").glob("*.safetensors")]
    return {f"{f.parent.name}/{f.name}/{name}": value.tobytes() for f in files for name, value in load_file(f).items()}

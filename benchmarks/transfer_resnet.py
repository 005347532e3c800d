"""A ResNet-18 that learned five Fashion-MNIST classes, fine-tuned on the other five at 100 pictures a class.

    python benchmarks/transfer_resnet.py --data FOLDER [--methods full head ... scratch] [--seeds 0 1 2]
        [--first 0 1 2 3 4] [--pretrain-each 6000] [--pretrain-epochs 4] [--work FOLDER] [--out FILE]

FOLDER holds the four IDX files (Debian: package dataset-fashion-mnist). The network is drawn and trained on the five
classes of --first by tunesmith itself (`model.pretrained: false`), then fine-tuned from that run's best/ on the other
five; `scratch` is the same network, drawn anew, with full tuning on the same pictures, steps and rate of a new network,
and `scratch_default` the same with the defaults (`--method full model.pretrained=false` and nothing else). `full_alike`
tunes the pretrained one with exactly the settings of `scratch` (rate 1e-3, moving statistics), so that the start alone
differs. The score is accuracy on the test pictures of the other five. Pictures are brought to 32 pixels and not
mirrored. With --work the pretrained network is kept and used again.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

METHODS = ["full", "head", "lora", "norm_tuning", "full_alike", "scratch", "scratch_default"]
NEW = ["--model", "timm/resnet18", "model.pretrained=false"]
SETTINGS = ["--task", "image_classification", "task.size=32", "task.augment.preset=light", "task.augment.flip=0"]


def write_part(data: Path, folder: Path, which: str, classes: Iterable[int], each: int) -> None:
    """PNG files of the first `each` pictures of each class, in a folder a class."""
    part = "train" if which == "train" else "t10k"
    with gzip.open(next(data.glob(f"{part}-images-idx3-ubyte*"))) as file:
        pictures = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(next(data.glob(f"{part}-labels-idx1-ubyte*"))) as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    for label in classes:
        place = folder / which / f"class_{label}"
        place.mkdir(parents=True, exist_ok=True)
        for number in np.flatnonzero(labels == label)[:each]:
            Image.fromarray(pictures[number]).save(place / f"{number}.png")


def fit(place: Path, data: Path, settings: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tunesmith", "fit", "--data", str(data), "--output", str(place)]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{settings} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads((place / "scores.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--first", nargs=5, type=int, default=[0, 1, 2, 3, 4], choices=range(10), metavar="CLASS")
    parser.add_argument("--pretrain-each", type=int, default=6000)
    parser.add_argument("--pretrain-epochs", type=int, default=4)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, default=Path("transfer_resnet.jsonl"))
    given = parser.parse_args()
    anew = ["--method", "{name: full, statistics: moving}", "train.learning_rate=0.001",
            "train.head_learning_rate=0.001"]  # fmt: skip
    with contextlib.ExitStack() as stack:
        place = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunesmith-bench-")))
        if not (place / "pretrained" / "scores.json").is_file():
            write_part(given.data, place / "first", "train", given.first, given.pretrain_each)
            for which, each in (("train", 100), ("test", 1000)):
                write_part(given.data, place / "second", which, set(range(10)) - set(given.first), each)
            first = fit(
                place / "pretrained", place / "first", [*SETTINGS, *NEW, *anew, f"train.epochs={given.pretrain_epochs}"]
            )
            print(f"pretrained on classes {given.first}: accuracy {first['after']['accuracy']:.4f}", flush=True)
        new = {int(folder.name.removeprefix("class_")) for folder in (place / "second" / "train").iterdir()}
        if new & set(given.first):
            sys.exit(f"{place} is of another --first: its new classes are {sorted(new)}. Take another --work.")
        found: dict[str, list[float]] = {}
        for method in given.methods:
            how = (
                anew if method in ("full_alike", "scratch") else ["--method", method.replace("scratch_default", "full")]
            )
            start = NEW if method.startswith("scratch") else ["--model", str(place / "pretrained/best")]
            for seed in given.seeds:
                more = [f"train.seed={seed}", "data.split.validation=0", "train.epochs=7"]
                run = stack.enter_context(tempfile.TemporaryDirectory(prefix="tunesmith-bench-"))
                scores = fit(Path(run) / "run", place / "second", [*SETTINGS, *start, *how, *more])
                found.setdefault(method, []).append(scores["after"]["accuracy"])
                with given.out.open("a", encoding="utf-8") as file:
                    record = {"method": method, "seed": seed, **scores["after"], **scores["cost"]}
                    file.write(json.dumps(record) + "\n")
            mean, low = statistics.mean(found[method]), min(found[method])
            print(f"{method:12} mean {mean:.4f}  lowest {low:.4f}", flush=True)


if __name__ == "__main__":
    main()

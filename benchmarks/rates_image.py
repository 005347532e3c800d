"""Accuracy on held-out training pictures for methods and learning rates: how the defaults for pictures are chosen.

    python benchmarks/rates_image.py head=2e-3,1e-2 lora=5e-4/2e-3,1e-3/1e-2 [--sets clothing fashion resnet]
        [--seeds 0 1] [--epochs 5] [--pretrained FOLDER] [--idx FOLDER] [--first 0 1 2 3 4] [--renamed]
        [--more task.head_start=drawn] [--jobs 2] [--out FILE]

A rate is written `rate` or `rate/head's rate`. Test pictures are not looked at: clothing is scored on its validation
pictures, Fashion-MNIST (30 training pictures a class) on the next 30 of each class, both with ImageNet EfficientNet-
Lite0 at 160 pixels; `resnet` is the network of `transfer_resnet.py --work FOLDER` (which must have run) on its 100
pictures a class of new clothes, scored on the next 200 of each class, with that benchmark's settings. ImageNet's head
knows a few of the labels by name; with --renamed (and a FILE of its own, as for --more) it knows none. Runs that FILE
has already are not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from quality_image import DATA, MODEL, SETS
from transfer_resnet import SETTINGS, fit, write_part

A_CLASS = 30


def copied(name: str, place: Path, *, renamed: bool) -> Path:
    """A folder of pictures to learn from, and as its test part others that are no test pictures of the set."""
    data = (DATA / SETS[name]).resolve()
    for kind in sorted((data / "train").iterdir()):
        learned = sorted(kind.iterdir())
        held = sorted((data / "validation" / kind.name).iterdir()) if (data / "validation").exists() else None
        for part, pictures in (("train", learned[:A_CLASS]), ("test", held or learned[A_CLASS : 2 * A_CLASS])):
            into = place / part / (f"kind_{kind.name}" if renamed else kind.name)
            into.mkdir(parents=True)
            for picture in pictures:
                shutil.copy(picture, into)
    return place


def of_resnet(idx: Path, place: Path, first: Collection[int]) -> Path:
    """The 100 pictures a class that `transfer_resnet.py` learns from, and the next 200 of each."""
    write_part(idx, place / "all", "train", set(range(10)) - set(first), 300)
    for folder in sorted((place / "all/train").iterdir()):
        pictures = sorted(folder.iterdir(), key=lambda file: int(file.stem))
        for part, some in (("train", pictures[:100]), ("test", pictures[100:])):
            (place / part / folder.name).mkdir(parents=True)
            for picture in some:
                picture.rename(place / part / folder.name / picture.name)
    shutil.rmtree(place / "all")
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tried", nargs="+", metavar="METHOD=RATE[/HEAD'S RATE],...")
    parser.add_argument("--sets", nargs="+", default=["clothing", "fashion"], choices=["clothing", "fashion", "resnet"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--pretrained", type=Path, help="the folder that transfer_resnet.py --work kept")
    parser.add_argument("--idx", type=Path, help="the folder of Fashion-MNIST's IDX files, for resnet")
    parser.add_argument("--first", nargs=5, type=int, default=range(5), metavar="CLASS", help="as it was run with")
    parser.add_argument("--renamed", action="store_true", help="labels that no row of ImageNet's head goes by")
    parser.add_argument("--more", nargs="+", default=[], metavar="KEY=VALUE", help="settings of every run")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("rates_image.jsonl"))
    given = parser.parse_args()
    work = [
        (name, method, rate, seed)
        for name in given.sets
        for method, rates in (one.split("=") for one in given.tried)
        for rate in rates.split(",")
        for seed in given.seeds
    ]
    key = ("set", "method", "rate", "seed")
    lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.exists() else []
    known: dict[tuple[Any, ...], float] = {tuple(r[k] for k in key): r["accuracy"] for r in map(json.loads, lines)}
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as kept:
        folders = {
            name: of_resnet(given.idx, Path(kept) / name, given.first)
            if name == "resnet"
            else copied(name, Path(kept) / name, renamed=given.renamed)
            for name in given.sets
        }

        def measure(one: tuple[str, str, str, int]) -> None:
            if one in known:
                return
            name, method, rate, seed = one
            own, _, head = rate.partition("/")
            more = [f"train.learning_rate={own}", *([f"train.head_learning_rate={head}"] if head else [])]
            more += [
                *given.more,
                f"train.seed={seed}",
                "train.threads=1",
                "data.split.validation=0",
                "forgetting.old_tasks=[]",
            ]
            start = (
                [*SETTINGS, "--model", str(given.pretrained / "pretrained/best"), "train.epochs=7"]
                if name == "resnet"
                else [
                    "--task",
                    "image_classification",
                    "--model",
                    MODEL,
                    f"train.epochs={given.epochs}",
                    "task.size=160",
                ]
            )
            with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as place:
                scores = fit(Path(place) / "run", folders[name], ["--method", method, *start, *more])
            known[one] = scores["after"]["accuracy"]
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(zip(key, one, strict=True)) | {"accuracy": known[one]}) + "\n")

        with ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(measure, work))
    for name, method, rate in dict.fromkeys(one[:3] for one in work):
        scores = [known[name, method, rate, seed] for seed in given.seeds]
        told = ", ".join(f"{s:.3f}" for s in scores)
        print(f"{name:10} {method:12} {rate:12} {statistics.mean(scores):.4f}  ({told})")


if __name__ == "__main__":
    sys.exit(main())

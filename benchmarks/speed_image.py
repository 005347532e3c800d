"""Training speed on pictures beside a plain torchvision-style loop: full tuning of ResNet-18 at 96 px, and a head.

    python benchmarks/speed_image.py [--work full head] [--rounds 3] [--epochs 5] [--images 320] [--colour 0.2]

Same network (drawn weights), same JPEG files, batch 32, alternating, each side in a process of its own. The plain loop:
ImageFolder, RandomResizedCrop and flip by torchvision.transforms.v2, a DataLoader with two workers, AdamW, float32,
`model.train()`; for the head everything else frozen, as people do it. tunesmith: its defaults, but that colours are
changed on both sides alike (`--colour 0.2` is its default). Both count whole epochs, reading included, from the first
step to the last; tunesmith's count includes decoding every picture before, and the start of the head from its features:
the drawn weights are a file for it, since a network without pretrained weights has no such start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 96


def write_images(folder: Path, count: int) -> None:
    """Noisy JPEG pictures of 400 x 300 pixels in two folders, as a camera's small ones."""
    from PIL import Image

    draw = np.random.default_rng(0)
    for number in range(count):
        place = folder / "train" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        small = draw.integers(0, 255, (30, 40, 3)).astype(np.uint8)
        Image.fromarray(small).resize((400, 300)).save(place / f"{number}.jpg", quality=90)


def plain(folder: Path, work: str, epochs: int, colour: float) -> dict[str, float]:
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.models import resnet18
    from torchvision.transforms import v2

    view = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(SIDE, antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.ColorJitter(colour, colour, colour)] if colour else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    loader: Any = DataLoader(ImageFolder(str(folder / "train"), view), 32, shuffle=True, num_workers=2,
                             persistent_workers=True)  # fmt: skip
    model = resnet18(num_classes=2)
    if work == "head":
        model.requires_grad_(False)
        model.fc.requires_grad_(True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    began, seen = time.perf_counter(), 0
    for _ in range(epochs):
        model.train()
        for pixels, labels in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(pixels), labels).backward()
            optimizer.step()
            seen += len(labels)
    return {"images_a_second": seen / (time.perf_counter() - began)}


def ours(folder: Path, work: str, epochs: int, colour: float) -> dict[str, float]:
    import tunesmith as ts

    settings: dict[str, Any] = {
        "task": {"name": "image_classification", "size": SIDE},
        "model": {"name": "torchvision/resnet18", "weights": str(folder / "drawn.safetensors")},
        "data": {"path": str(folder / "train"), "split": {"validation": 0.0, "test": 0.0}},
        "method": work,
        "train": {"epochs": epochs, "batch_size": 32, "checkpoint_every": 100_000},
    }
    if work != "head":  # a head alone learns from features of pictures that are not varied
        settings["task"]["augment"] = {"colour": colour}
    began, first, seen = time.perf_counter(), 0.0, 0
    with tempfile.TemporaryDirectory() as place:
        steps = ts.stream(ts.Recipe.make(settings), folder=Path(place) / "run")
        for event in steps:
            if isinstance(event, ts.Stage) and event.text.startswith("reading and resizing"):
                reading = time.perf_counter()
            if isinstance(event, ts.Stage) and event.text.startswith("scoring the untouched"):
                first = time.perf_counter() - reading  # decoding and resizing, once
            if isinstance(event, ts.Begun):
                began = time.perf_counter()
            if isinstance(event, ts.Step):
                seen += event.examples
                last = time.perf_counter()
    return {"images_a_second": seen / (last - began + first)}


def write_weights(path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    save_file(resnet18().state_dict(), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", default=["full", "head"], choices=["full", "head"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--colour", type=float, default=0.0)
    parser.add_argument("--out", type=Path, default=Path("speed_image.json"))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        side, folder, work = given.one
        found = (ours if side == "tunesmith" else plain)(Path(folder), work, given.epochs, given.colour)
        print("RESULT " + json.dumps(found), flush=True)
        return
    results: dict[str, Any] = {"load": os.getloadavg()}
    with tempfile.TemporaryDirectory() as place:
        write_images(Path(place), given.images)
        write_weights(Path(place) / "drawn.safetensors")
        for work in given.work:
            told: dict[str, list[float]] = {"tunesmith": [], "plain loop": []}
            for _ in range(given.rounds):
                for side, speeds in told.items():
                    options = ["--epochs", str(given.epochs), "--colour", str(given.colour)]
                    command = [sys.executable, __file__, *options, "--one", side, place, work]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    if done.returncode:
                        sys.exit(f"{side} {work} failed:\n{done.stderr[-2000:]}")
                    speeds.append(json.loads(done.stdout.split("RESULT ", 1)[1])["images_a_second"])
            mine, theirs = (statistics.median(told[side]) for side in ("tunesmith", "plain loop"))
            ratios = [a / b for a, b in zip(*told.values(), strict=True)]
            middle = statistics.median(ratios)
            print(f"{work:5} tunesmith {mine:8.1f} images/s  plain loop {theirs:8.1f}", end="  ")
            print(f"ratio {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
            results[work] = told
    given.out.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

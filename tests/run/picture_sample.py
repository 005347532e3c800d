"""Run folders of tasks on pictures, written by hand: classes of clothes, and blood cells with their boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tests.run.sample import write_json, write_lines, write_run

from tunesmith.pictures.draw import compared, thumbnail

CLOTHES = ("dress", "hat", "outwear", "shirt", "shoes")
CELLS = ("Platelets", "RBC", "WBC")

Truth = list[tuple[list[float], str]]
Answers = list[tuple[list[float], str, float]]


def write_picture_run(folder: Path, labels: Sequence[str] = CLOTHES, *, examples: int = 80) -> Path:
    """A finished run of image classification; every third picture has its thumbnail."""
    write_run(folder, labels, examples=examples, steps=30, skill=1.3)
    of_task(folder, "image_classification", "timm/resnet18")
    (folder / "predictions" / "pictures").mkdir()
    generator = np.random.default_rng(0)
    for when in ("before", "after"):
        file = folder / "predictions" / f"test_{when}.jsonl"
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for place, row in enumerate(rows):
            del row["text"]
            row |= {"image": f"/data/clothes/test/{row['label']}/{place:04d}.jpg", "file": row["label"], "line": 0}
            wrong = row["predicted"] != row["label"]
            if when == "after" and (wrong or place % 3 == 0):
                row["thumbnail"] = f"pictures/{place}.jpg"
                data = thumbnail(scene(generator, (200 + 3 * place, 240), [])[0])
                (folder / "predictions" / row["thumbnail"]).write_bytes(data)
        write_lines(file, rows)
    return folder


def write_detection_run(folder: Path, labels: Sequence[str] = CELLS, *, examples: int = 24) -> Path:
    """A finished run of object detection; every third picture has its thumbnail with truth and answers."""
    write_run(folder, labels, examples=examples, steps=30)
    of_task(folder, "object_detection", "torchvision/fasterrcnn_resnet50_fpn")
    generator = np.random.default_rng(0)
    (folder / "predictions" / "test_before.jsonl").unlink()
    (folder / "predictions" / "pictures").mkdir()
    rows = []
    for place in range(examples):
        picture, truth = scene(generator, (240, 320), labels)
        answers = answered(truth, labels, generator)
        row: dict[str, Any] = {
            "image": f"/data/cells/images/BloodImage_{place:05d}.jpg",
            "boxes": [[*box, name, 0] for box, name in truth],
            "predicted": [[*box, name, score] for box, name, score in answers],
            "file": "instances_test.json",
            "line": place + 1,
        }
        if place % 3 == 0:
            row["thumbnail"] = f"pictures/{place}.jpg"
            drawn = compared(picture, truth, answers, labels=labels)
            (folder / "predictions" / row["thumbnail"]).write_bytes(thumbnail(drawn, side=2000))
        rows.append(row)
    write_lines(folder / "predictions" / "test_after.jsonl", rows)
    recall = np.linspace(0, 1, 101)
    curves = {
        name: {"recall": recall.tolist(), "precision": (np.clip(1.02 - recall ** (4 + 3 * i), 0, 1)).tolist()}
        for i, name in enumerate(labels)
    }
    errors = {"missed": 31, "wrong_class": 4, "poor_box": 57, "background": 22, "duplicate": 0, "right": 412}
    write_json(folder / "predictions" / "detection.json", {"curves": curves, "errors": errors})
    write_scores(folder, labels)
    return folder


def scene(generator: np.random.Generator, sides: tuple[int, int], labels: Sequence[str]) -> tuple[np.ndarray, Truth]:
    """Discs on a ground of soft colours, uint8 [height, width, 3], and their boxes with a class each."""
    height, width = sides
    down, across = np.mgrid[0:height, 0:width]
    picture = 200 + 30 * np.sin(down / 40 + generator.random(3)[:, None, None] * 6) * np.cos(across / 60)
    truth: Truth = []
    for _ in range(generator.integers(3, 8)):
        radius = int(generator.integers(12, 40))
        x, y = int(generator.integers(radius, width - radius)), int(generator.integers(radius, height - radius))
        place = int(generator.integers(0, max(1, len(labels))))
        inside = (across - x) ** 2 + (down - y) ** 2 < radius**2
        picture[:, inside] = np.array([[205, 120, 120], [120, 90, 190], [225, 170, 90]][place % 3])[:, None]
        if labels:
            truth.append(([x - radius, y - radius, x + radius, y + radius], labels[place]))
    return picture.clip(0, 255).astype(np.uint8).transpose(1, 2, 0), truth


def answered(truth: Truth, labels: Sequence[str], generator: np.random.Generator) -> Answers:
    """Most of the truth, a little off, and some that is nowhere."""
    answers: Answers = []
    for box, name in truth:
        if generator.random() < 0.9:
            moved = (np.array(box) + generator.normal(size=4) * 3).round(1).tolist()
            answers.append((moved, name, round(float(generator.uniform(0.55, 1)), 3)))
    answers.append(([10.0, 10.0, 60.0, 50.0], labels[0], 0.12))
    return answers


def of_task(folder: Path, task: str, model: str) -> None:
    """Turn a text run's recipe and manifest into those of a task on pictures."""
    recipe = (folder / "recipe.yaml").read_text(encoding="utf-8").splitlines()
    recipe[:2] = [f"task: {{name: {task}, size: auto}}", f"model: {{name: {model}}}"]
    text = "\n".join(recipe).replace("data/tweets.csv", "data/pictures").replace("text: text, label: sentiment", "")
    (folder / "recipe.yaml").write_text(text + "\n", encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    library, _, name = model.partition("/")
    manifest["model"] = {"name": model, "path": "", "sha256": {}, "licence": "BSD-3-Clause"}
    manifest["model"] |= {"library": library, "architecture": name}
    manifest["data"]["summary"] |= {"files": [{"file": "data/pictures"}], "notes": ["2 pictures occur twice."]}
    del manifest["cut"]
    write_json(folder / "manifest.json", manifest)


def write_scores(folder: Path, labels: Sequence[str]) -> None:
    """AP as a detector of blood cells has it."""
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    after = {"ap": 0.583, "ap50": 0.914, "ap75": 0.641, "ap_small": -1.0, "ap_medium": 0.552, "ap_large": 0.47}
    before = {name: 0.0 for name in after}
    for place, name in enumerate(labels):
        before[f"ap/{name}"], after[f"ap/{name}"] = 0.0, round(0.42 + 0.37 * place / max(1, len(labels) - 1), 3)
    scores |= {"before": before, "after": after, "main_score": {"name": "ap", "better": "higher"}, "temperature": None}
    scores["intervals"] = {"before": {"ap": [0.0, 0.0]}, "after": {"ap": [0.551, 0.612]}}
    scores["difference"] = {"ap": [0.583, 0.551, 0.612]}
    write_json(folder / "scores.json", scores)

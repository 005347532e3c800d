"""Run folders written by hand, with numbers as a real run has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.evaluate.calibration import fit_temperature
from tunesmith.metrics import classification, interval

TWEETS = {
    "negative": [
        "Third delay this week and nobody at the gate knows anything. Never again.",
        "My bag is still in Denver. I am not.",
        "Forty minutes on hold, then the line went dead.",
    ],
    "neutral": ["Does the 6 am flight to Boston still leave from terminal B?", "On my way to the airport."],
    "positive": ["Smooth flight, kind crew, landed early. Thank you!", "机组人员非常友好，下次还会选择你们。"],
}


def write_run(
    folder: Path,
    labels: Sequence[str] = ("negative", "neutral", "positive"),
    *,
    examples: int = 400,
    steps: int = 312,
    finished: bool = True,
    skill: float = 1.6,
    seed: int = 0,
) -> Path:
    """A whole run folder; with `finished=False` only what a run in progress has."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_recipe(folder, steps)
    write_manifest(folder, labels, examples, generator)
    write_events(folder, steps, generator)
    write_quarantine(folder)
    if finished:
        targets = generator.integers(0, len(labels), examples)
        noise = generator.normal(size=(2, examples, len(labels)))
        before = noise[0] * 0.3
        after = (noise[1] + skill * np.eye(len(labels))[targets]) * 3.2  # overconfident, as fine-tuned models are
        write_predictions(folder, "before", labels, before, targets, generator)
        write_predictions(folder, "after", labels, after, targets, generator)
        write_scores(folder, labels, before, after, targets, steps)
        (folder / "best").mkdir()
        (folder / "best" / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": "sentence-transformers/all-MiniLM-L6-v2", "peft_type": "LORA"})
        )
    return folder


def write_recipe(folder: Path, steps: int) -> None:
    (folder / "recipe.yaml").write_text(
        f"""\
task: {{name: text_classification, max_length: 96, pooling: mean, class_weights: none, label_smoothing: 0.0}}
model: {{name: sentence-transformers/all-MiniLM-L6-v2, revision: null}}
data:
  path: data/tweets.csv
  columns: {{text: text, label: sentiment}}
  split: {{validation: 0.1, test: 0.1, seed: 0}}
method: {{name: lora, rank: 8, alpha: 16.0, dropout: 0.0, targets: [query, key, value, attention_output, up, down]}}
train:
  epochs: 3.0
  steps: {steps}
  batch_size: 32
  learning_rate: 0.002
  precision: bfloat16
  threads: 2
  seed: 0
output: runs/tweets
""",
        encoding="utf-8",
    )


def write_manifest(folder: Path, labels: Sequence[str], examples: int, generator: np.random.Generator) -> None:
    shares = generator.dirichlet(np.full(len(labels), 4.0))
    train = {label: max(3, int(3328 * part)) for label, part in zip(labels, shares, strict=True)}
    used = sum(train.values()) + 2 * examples
    summary = {
        "read": used + 12 + 3,
        "used": used,
        "quarantined": 12,
        "blank": 3,
        "files": [
            {
                "file": "data/tweets.csv",
                "rows": used + 15,
                "encoding": "utf-8",
                "separator": ",",
                "columns": {"text": "text", "label": "sentiment"},
            }
        ],
        "split_sizes": {"train": sum(train.values()), "validation": examples, "test": examples},
        "class_counts": {"train": train},
        "notes": [
            "46 texts occur more than once; all copies of a text stand in the same part.",
            "7 texts occur with different labels; they were kept.",
        ],
        "sha256": {"data/tweets.csv": "9f2c" * 16},
    }
    manifest = {
        "versions": {"tunesmith": "0.1.0", "python": "3.11.7", "torch": "2.14.1", "transformers": "5.23.0"},
        "threads": 2,
        "seed": 0,
        "model": {
            "name": "sentence-transformers/all-MiniLM-L6-v2",
            "path": "models/minilm",
            "sha256": {"model.safetensors": "53aa" * 16},
            "licence": "Apache-2.0",
        },
        "data": {"sha256": summary["sha256"], "summary": summary},
        "labels": list(labels),
        "cut": {"max_length": 96, "share": 0.0042},
        "multi_label": False,
        "split": {"train": "ab12" * 16, "validation": "cd34" * 16, "test": "ef56" * 16},
        "origins": {
            "model.name": "recipe",
            "method.rank": "default of lora",
            "train.learning_rate": "auto: lora's peak rate 2e-3 (docs/experiments.md)",
            "train.precision": "auto: this processor is fast at bfloat16",
        },
    }
    write_json(folder / "manifest.json", manifest)


def write_events(folder: Path, steps: int, generator: np.random.Generator) -> None:
    events: list[dict[str, Any]] = []
    best = 0.0
    every = max(1, steps // 12)
    for step in range(1, steps + 1):
        share = step / steps
        loss = 0.35 + 0.75 * np.exp(-6 * share) + float(generator.normal()) * 0.07
        rate = 2e-3 * min(share / 0.06, (1 - share) / 0.94)
        events.append(
            {
                "event": "step",
                "step": step,
                "epoch": round(3 * share, 4),
                "loss": round(abs(loss), 5),
                "learning_rate": rate,
                "gradient_norm": abs(1.1 + float(generator.normal()) * 0.3),
                "examples": 32,
                "tokens": 900,
                "seconds": 0.19,
            }
        )
        if step % every == 0:
            accuracy = float(0.8 - 0.35 * np.exp(-7 * share) + generator.normal() * 0.008)
            scores = {"accuracy": round(accuracy, 4), "nll": round(0.5 + 0.5 * np.exp(-7 * share) + 0.1 * share, 4)}
            events.append(
                {"event": "evaluated", "step": step, "scores": scores, "best": accuracy > best, "seconds": 1.1}
            )
            best = max(best, accuracy)
    write_lines(folder / "events.jsonl", events)


def write_quarantine(folder: Path) -> None:
    rows = [
        {"file": "data/tweets.csv", "line": 40 + 7 * i, "reason": "the label is empty", "row": f"@air, row {i},"}
        for i in range(9)
    ]
    rows += [
        {"file": "data/tweets.csv", "line": 9, "reason": "an open quote", "row": '"never closed'} for _ in range(3)
    ]
    write_lines(folder / "quarantine.jsonl", rows)


def write_predictions(
    folder: Path,
    when: str,
    labels: Sequence[str],
    logits: np.ndarray,
    targets: np.ndarray,
    generator: np.random.Generator,
) -> None:
    chances, told = classification.softmax(logits), logits.argmax(axis=1)
    rows = []
    for place, (truth, said) in enumerate(zip(targets, told, strict=True)):
        texts = TWEETS.get(labels[truth]) or [f"I want to ask about {labels[truth].replace('_', ' ')}, please."]
        row = {"text": texts[place % len(texts)], "label": labels[truth], "predicted": labels[said]}
        rows.append(row | {"probabilities": chances[place].tolist(), "file": "data/tweets.csv", "line": 2 + 3 * place})
    (folder / "predictions").mkdir(exist_ok=True)
    write_lines(folder / "predictions" / f"test_{when}.jsonl", rows)


def write_scores(
    folder: Path, labels: Sequence[str], before: np.ndarray, after: np.ndarray, targets: np.ndarray, steps: int
) -> None:
    def ends(logits: np.ndarray) -> dict[str, list[float]]:
        found = {}
        for name, statistic in (("accuracy", classification.accuracy), ("macro_f1", classification.macro_f1)):
            held = interval.bootstrap(statistic, logits, targets, resamples=200)
            found[name] = [held.low, held.high]
        return found

    gain = interval.paired_difference(classification.accuracy, before, after, targets, resamples=200)
    scores = {
        "main_score": {"name": "accuracy", "better": "higher"},
        "part": "test",
        "before": classification.single_label(before, targets, labels),
        "after": classification.single_label(after, targets, labels),
        "intervals": {"before": ends(before), "after": ends(after)},
        "difference": {"accuracy": [gain.value, gain.low, gain.high]},
        "temperature": fit_temperature(after, targets),
        "cost": {"learned": 297_219, "total": 23_010_051, "seconds": 74.2, "peak_mib": 1184.0, "file_mib": 1.27},
        "best_step": steps - steps // 12,
    }
    write_json(folder / "scores.json", scores)


def write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


def write_lines(file: Path, rows: Sequence[Any]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

"""Task files of the lm-evaluation-harness with their data beside them, small and offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

PLACES = ("sea", "boat", "harbour", "wind", "fish", "net", "island")
SAID = ("calm", "wild", "cold", "blue", "deep")
MEAN = {"aggregation": "mean", "higher_is_better": True}


def write_choices(folder: Path, rows: int = 14, *, name: str = "boats", **changes: Any) -> Path:
    """Questions with two answers to choose from, by turns the first and the second right; the path of the task file.
    changes: keys of the file that are other, None to leave one out."""
    told = [
        {"question": f"What is the {PLACES[n % 7]} {n}?", "answer": n % 2, "choices": [SAID[n % 5], SAID[(n + 2) % 5]]}
        for n in range(rows)
    ]
    settings = {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc", **MEAN}, {"metric": "acc_norm", **MEAN}],
    }
    return _written(folder, name, "boats.jsonl", told, settings | changes)


def write_questions(folder: Path, answers: list[str], *, name: str = "colours", **changes: Any) -> Path:
    """Questions that are answered in up to eight tokens, which must be exactly the given answers."""
    told = [{"question": question(number), "answer": answer} for number, answer in enumerate(answers)]
    settings = {
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "exact_match", **MEAN}],
    }
    return _written(folder, name, "colours.jsonl", told, settings | changes)


def question(number: int) -> str:
    """What `write_questions` asks."""
    return f"The colour of {PLACES[number % 7]} {number} is"


def _written(folder: Path, name: str, file: str, rows: list[dict[str, Any]], own: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shared = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": file}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
    }
    told = {key: value for key, value in (shared | own).items() if value is not None}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    return path

"""A finished run's model, loaded as any plain transformers and peft program would load it, and its answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.evaluate.evaluate import logits_of
from tunesmith.metrics import classification
from tunesmith.pictures.form import patches
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.folder import open_run
from tunesmith.tasks.base import Encoded
from tunesmith.train.device import Device
from tunesmith.types import Example, Prediction


def _work(row: Encoded) -> int:
    """Tokens of an encoded text, patches of an encoded picture."""
    first: Any = next(iter(row.values()))
    return len(first) if "picture" not in row else patches(*first.shape[:2])


class _InMemory:
    """Encoded examples that a caller holds anyway."""

    def __init__(self, rows: Sequence[Encoded]) -> None:
        self.rows = rows
        self.lengths = np.array([_work(row) for row in rows], dtype=np.int32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


class Predictor:
    """Answers of a run's delivered model, in float32. RunError when the run has not finished."""

    def __init__(self, folder: str | Path) -> None:
        run = open_run(folder)
        self.folder = run.folder
        self.task = Recipe.make(run.recipe).task
        facts = json.loads((run.folder / "best" / "tunesmith.json").read_text(encoding="utf-8"))
        self.labels: tuple[str, ...] = tuple(facts["labels"])
        self.multi_label: bool = facts["multi_label"]
        self.thresholds = None if facts["thresholds"] is None else np.array(facts["thresholds"])
        self.temperature: float = facts["temperature"] or 1.0
        self.device = Device()
        self.model, self.processor = self.task.read(run.folder / "best")
        self.device.place(self.model)

    def logits(self, examples: Sequence[Example]) -> np.ndarray:
        """Raw scores [examples, classes], in order; memory is that of the examples and one batch."""
        encoded = _InMemory(self.task.encode(examples, self.processor)) if examples else _InMemory([])
        return logits_of(self.model, encoded, task=self.task, processor=self.processor, device=self.device)

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """The answer to each example."""
        return self.task.predictions(self.logits(examples), self.labels, self.thresholds) if examples else []

    def predict_texts(self, texts: Sequence[str | tuple[str, str]]) -> list[Prediction]:
        """The answer to each text, or pair of texts."""
        names = ("text", "text_pair")
        pairs = [(text,) if isinstance(text, str) else text for text in texts]
        return self.predict([Example(dict(zip(names, pair, strict=False))) for pair in pairs])

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities [examples, classes]: logits divided by the stored temperature."""
        scaled = logits / self.temperature
        return classification.sigmoid(scaled) if self.multi_label else classification.softmax(scaled)

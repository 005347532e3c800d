"""The peer: transformers' Trainer, with peft for adapters, on the very examples and split of a recipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from tunesmith.data.load import load
from tunesmith.models.source import locate
from tunesmith.recipe.recipe import Recipe
from tunesmith.train.device import fast_at_bfloat16


class Clock(TrainerCallback):
    """Seconds and examples of each step, and the last logged loss."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.seen: list[tuple[float, int]] = []
        self.loss = float("nan")
        self._last = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._last = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the step."""
        now = time.perf_counter()
        self.seen.append((now - self._last, self.batch))
        self._last = now

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        """Note the loss."""
        self.loss = (logs or {}).get("loss", self.loss)


class Rows:
    """Tokenised rows as a torch data set."""

    def __init__(self, examples: Any, labels: tuple[str, ...], tokenizer: Any, max_length: int) -> None:
        self.rows = []
        for example in examples:
            row = dict(tokenizer(example.inputs["text"], truncation=True, max_length=max_length))
            self.rows.append({**row, "labels": labels.index(example.label), "length": len(row["input_ids"])})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {k: v for k, v in self.rows[index].items() if k != "length"}


def make_trainer(
    settings: dict[str, Any],
    place: Path,
    *,
    tuned: bool,
    learning_rate: float | None = None,
    epochs: float | None = None,
) -> Trainer:
    """A Trainer for the same work. tuned: length groups, and bfloat16 where the processor is fast at it."""
    recipe = Recipe.make(settings)
    data = load(recipe.data, place / "data", inputs=("text",))
    folder = locate(recipe.model.name).path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    max_length = int(settings["task"]["max_length"])
    set_seed(recipe.train.seed)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(data.labels))
    lora = type(recipe.method).__name__ == "LoRA"
    if lora:
        from peft import LoraConfig, get_peft_model

        targets = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
        model = get_peft_model(
            model,
            LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=targets, exclude_modules=".*pooler.*"),
        )
    train, fast = recipe.train, fast_at_bfloat16(torch.device("cpu"))
    arguments = TrainingArguments(
        output_dir=str(place / "trainer"),
        per_device_train_batch_size=int(train.batch_size),
        per_device_eval_batch_size=64,
        **({"max_steps": train.steps} if train.steps else {"num_train_epochs": float(epochs or 3)}),
        **({"learning_rate": learning_rate} if learning_rate else {"learning_rate": 2e-3} if lora else {}),
        **({"train_sampling_strategy": "group_by_length", "bf16": fast} if tuned else {}),
        save_strategy="no",
        report_to=[],
        logging_steps=10,
        disable_tqdm=True,
        use_cpu=True,
        seed=train.seed,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Rows(data.train, data.labels, tokenizer, max_length),  # type: ignore[arg-type]
        eval_dataset=Rows(data.test, data.labels, tokenizer, max_length),  # type: ignore[arg-type]
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=_scores,
    )
    return trainer


def _scores(found: Any) -> dict[str, float]:
    answers = found.predictions.argmax(-1)
    macro = f1_score(found.label_ids, answers, average="macro")
    return {"accuracy": float(np.mean(answers == found.label_ids)), "macro_f1": float(macro)}

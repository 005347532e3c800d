"""Everything a run needs before its first step: data, model, resolved recipe, method, optimizer, batches."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.data.batches import TrainBatches
from tunesmith.data.encoded import encode_to_disk
from tunesmith.data.load import load
from tunesmith.errors import DataError
from tunesmith.evaluate.evaluate import Part
from tunesmith.models.lengths import position_limit, token_lengths
from tunesmith.models.source import locate
from tunesmith.recipe import defaults
from tunesmith.recipe.recipe import Recipe
from tunesmith.train import randomness
from tunesmith.train.device import Device, fast_at_bfloat16
from tunesmith.train.loop import Plan
from tunesmith.train.memory import keep_freed_memory
from tunesmith.train.optimizer import Rates, make_optimizer
from tunesmith.types import Batch, Dataset, Example, Pretrained

LOOKED_AT = 2_000  # training texts whose tokens are counted for max_length


@dataclass(frozen=True, slots=True)
class Ready:
    """Data and untouched model of a run, its recipe without any `auto`, and where each filled-in value came from."""

    recipe: Recipe
    origins: Mapping[str, str]
    dataset: Dataset
    parts: Mapping[str, Part]
    pretrained: Pretrained
    device: Device
    lengths: np.ndarray
    """Tokens of (a sample of) the training texts before any cut."""
    longest_input: int | None
    """The most tokens that model and method take; None where nothing limits them."""


@dataclass(frozen=True, slots=True)
class Learning:
    """What the loop works on."""

    model: nn.Module
    learned: Mapping[str, Tensor]
    optimizer: torch.optim.AdamW
    batches: TrainBatches
    plan: Plan


def set_up(recipe: Recipe, work: Path) -> Iterator[str | Ready]:
    """Yield words about each stage, and last what is ready. Files that only this run needs go to `work`."""
    keep_freed_memory()
    task = recipe.task
    threads = recipe.train.threads
    if threads != "auto":
        torch.set_num_threads(threads)
    device = Device()
    place = work / f"process-{device.rank}"
    yield "reading the data"
    dataset = load(recipe.data, place, inputs=task.text_columns)
    if not len(dataset.train):
        raise DataError("no example is left to train on: lower data.split.validation and data.split.test.")
    yield "reading the model"
    source = locate(recipe.model.name, recipe.model.revision)
    pretrained = task.load(source, dataset.labels, multi_label=dataset.multi_label, seed=recipe.train.seed)
    facts, lengths = _facts(pretrained, dataset)
    recipe, origins = defaults.resolve(recipe, facts)
    task = recipe.task
    device.place(pretrained.model)
    yield "turning texts into tokens"
    names = ("train", "validation", "test")
    whole = {name: getattr(dataset, name) for name in names}
    parts = {
        name: encoded_part(task, whole[name], dataset.labels, pretrained.processor, place / f"{name}.arrow")
        for name in names
    }
    limit = facts.model_max_length
    room = None if limit is None else limit - recipe.method.added_tokens()
    yield Ready(recipe, origins, dataset, parts, pretrained, device, lengths, room)


def encoded_part(task: Any, examples: Any, labels: Sequence[str], processor: Any, path: Path) -> Part:
    """One part of the data as token ids on disk and targets."""
    encoded = encode_to_disk(examples, lambda rows: task.encode(rows, processor), path)
    return Part(encoded, task.targets(examples, labels), tuple(labels))


def settled(ready: Ready) -> Ready:
    """What the task settles from the data once the untouched model has been scored (see `Task.start`)."""
    found = ready.recipe.task.start(ready.pretrained, ready.parts["train"])
    task = ready.recipe.task.model_copy(update={name: value for name, (value, _) in found.items()})
    origins = {f"task.{name}": origin for name, (_, origin) in found.items()}
    return replace(ready, recipe=ready.recipe.model_copy(update={"task": task}), origins={**ready.origins, **origins})


def start_learning(ready: Ready) -> Learning:
    """Make the method's module, its optimizer, batches and plan; all draws follow from the seed."""
    recipe, train = ready.recipe, ready.recipe.train
    torch.manual_seed(randomness.counter_seed(train.seed, "method"))
    model = recipe.method.prepare(ready.pretrained)
    ready.device.place(model)
    randomness.use_counter_dropout(model)
    learned = recipe.method.learned(model)
    anatomy = ready.pretrained.anatomy
    rates = Rates(_number(train.learning_rate), _number(train.head_learning_rate), _number(train.weight_decay),
                  train.layer_decay)  # fmt: skip
    part, processor, task = ready.parts["train"], ready.pretrained.processor, recipe.task

    def collate(indices: Sequence[int], positions: Sequence[int]) -> Batch:
        rows = [part.encoded[i] for i in indices]
        return task.collate(rows, part.targets[list(indices)], processor, positions=positions)

    batches = TrainBatches(
        part.encoded.lengths,
        collate,
        batch_size=int(_number(train.batch_size)),
        micro_batch_size=int(_number(train.micro_batch_size)),
        seed=train.seed,
        rank=ready.device.rank,
        processes=ready.device.processes,
    )
    steps = train.steps or max(1, math.ceil(_number(train.epochs) * batches.steps_per_epoch))
    plan = Plan(
        steps=steps,
        seed=train.seed,
        schedule=train.schedule,
        warmup=train.warmup,
        max_gradient_norm=train.max_gradient_norm,
        evaluate_every=int(_number(train.evaluate_every)),
        main_score=task.main_score(multi_label=ready.dataset.multi_label),
    )
    return Learning(model, learned, make_optimizer(learned, anatomy, rates), batches, plan)


def absolute(recipe: Recipe) -> Recipe:
    """The recipe with local paths made absolute, so that a run can be resumed from another folder."""
    data, model = recipe.data, recipe.model
    paths = {name: _absolute(getattr(data, name)) for name in ("path", "validation", "test")}
    return recipe.model_copy(
        update={
            "data": data.model_copy(update=paths),
            "model": model.model_copy(update={"name": _absolute(model.name)}),
        }
    )


def _absolute(name: str | None) -> str | None:
    glob = name is not None and any(c in name for c in "*?[") and ":" not in name
    return os.path.abspath(name) if name is not None and (glob or os.path.exists(name)) else name


def _facts(pretrained: Pretrained, dataset: Dataset) -> tuple[defaults.Facts, np.ndarray]:
    count, limit = token_lengths(pretrained.source)
    places = position_limit(pretrained.model)
    limits = [n for n in (limit, places) if n is not None]
    rows: list[Example] = [dataset.train[i] for i in range(0, len(dataset.train), 1 + len(dataset.train) // LOOKED_AT)]
    second = [str(e.inputs.get("text_pair", "")) for e in rows] if any("text_pair" in e.inputs for e in rows) else None
    lengths = np.array(count([str(e.inputs["text"]) for e in rows], second))
    middle, long, longest = (int(np.percentile(lengths, q)) for q in (50, 90, 99))
    facts = defaults.Facts(
        train_examples=len(dataset.train),
        class_counts=dataset.summary.class_counts["train"],
        lengths=(middle, long, longest),
        model_max_length=min(limits) if limits else None,
        hidden_size=pretrained.anatomy.hidden_size,
        fast_bfloat16=fast_at_bfloat16(),
        threads=torch.get_num_threads(),
    )
    return facts, lengths


def _number(value: float | str) -> float:
    assert not isinstance(value, str), "resolve() left an auto"
    return value

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

from tunesmith.cores import cores
from tunesmith.data.batches import TrainBatches
from tunesmith.data.encoded import lots
from tunesmith.data.load_for import load_for
from tunesmith.data.prefetch import Prefetched
from tunesmith.errors import DataError, Fault, RecipeError
from tunesmith.evaluate.evaluate import Part
from tunesmith.evaluate.parts import encoded_part
from tunesmith.evaluate.sifted import sifted
from tunesmith.models.attention import cannot_pack
from tunesmith.models.kept_labels import kept_labels
from tunesmith.models.rms_norm import shorten_norms
from tunesmith.models.shared_cast import share_casts
from tunesmith.recipe import defaults
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.base_model import check_method, find_base
from tunesmith.run.earlier import model_of
from tunesmith.run.parts import factor_of, hold_still
from tunesmith.run.referred import refer
from tunesmith.tasks.base import Task
from tunesmith.train import randomness
from tunesmith.train.activations import checkpoint_blocks
from tunesmith.train.device import Device, fast_at_bfloat16, repeat_sums
from tunesmith.train.discriminant import cannot_start
from tunesmith.train.loop import Plan
from tunesmith.train.memory import keep_freed_memory, shared_bytes
from tunesmith.train.optimizer import Rates, make_optimizer
from tunesmith.types import Batch, Dataset, Pretrained

LOOKED_AT = 2_000  # training examples whose size is looked at


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
    """Tokens (or patches) of (a sample of) the training examples before any cut."""
    longest_input: int | None
    """The most tokens that model and method take; None where nothing limits them."""


@dataclass(frozen=True, slots=True)
class Learning:
    """What the loop works on."""

    model: nn.Module
    learned: Mapping[str, Tensor]
    optimizer: torch.optim.AdamW
    batches: TrainBatches | Prefetched
    plan: Plan


def set_up(recipe: Recipe, work: Path) -> Iterator[str | Ready]:
    """Yield words about each stage, and last what is ready. Files that only this run needs go to `work`."""
    keep_freed_memory()
    task = recipe.task
    threads = recipe.train.threads
    if threads != "auto":
        torch.set_num_threads(threads)
    device = Device()
    if task.kind != "boxes":
        repeat_sums(device.device)
    place = work / f"process-{device.rank}"
    yield "reading the data"
    dataset = load_for(task.kind, recipe.data, place, inputs=task.input_columns)
    if not len(dataset.train):
        raise DataError("no example is left to train on: lower data.split.validation and data.split.test.")
    if recipe.train.early_stopping is not None and not len(dataset.validation):
        told = "stops by validation scores, and there are no validation examples: give data.split.validation a share."
        raise RecipeError([Fault("train.early_stopping", told)])
    given = recipe.model
    yield "reading the model" + (f", once to store it in {given.bits} bits" if given.bits else "")
    with device.first_alone():  # it fetches, merges and dequantises; libraries write nothing in the others
        source = find_base(task, given, model_of(given.network))
    if given.keep_labels:
        if task.kind == "chats" or task.kind == "preferences":  # one by one, so that types know what is left
            raise RecipeError([Fault("model.keep_labels", f"{task.name} has no classes whose rows could be kept.")])
        dataset = replace(dataset, labels=kept_labels(source, dataset.labels, kind=task.kind))
    pretrained = task.load(source, dataset.labels, multi_label=dataset.multi_label, seed=recipe.train.seed)
    check_method(pretrained, recipe.method)
    facts, lengths = _facts(recipe, pretrained, dataset, device)
    recipe, origins = defaults.resolve(recipe, facts)
    task = recipe.task
    device.place(pretrained.model)
    yield "turning texts into tokens" if task.in_tokens else "reading and resizing the pictures"
    dataset = sifted(task, dataset, pretrained.processor)
    names = ("train", "validation", "test")
    whole = {name: getattr(dataset, name) for name in names}
    parts = {
        name: encoded_part(task, whole[name], dataset.labels, pretrained.processor, place / name) for name in names
    }
    if task.refers:
        yield "asking the untouched model what training is measured against"
        refer(task, pretrained, parts, device=device, kept=place / "referred.npz")
    limit = facts.model_max_length
    room = None if limit is None else limit - recipe.method.added_tokens()
    yield Ready(recipe, origins, dataset, parts, pretrained, device, lengths, room)


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
    factors = recipe.task.rate_factors(ready.pretrained)
    model = recipe.method.prepare(ready.pretrained)
    hold_still(model, recipe.method, factors)
    ready.device.place(model)
    randomness.use_counter_dropout(model)
    share_casts(ready.pretrained.model, ready.pretrained.anatomy.blocks)
    shorten_norms(ready.pretrained.model)
    if train.checkpoint_activations is True:
        checkpoint_blocks(ready.pretrained.model, ready.pretrained.anatomy)
    learned = recipe.method.learned(model)
    anatomy = ready.pretrained.anatomy
    rates = Rates(_number(train.learning_rate), _number(train.head_learning_rate), _number(train.weight_decay),
                  train.layer_decay)  # fmt: skip
    batches, steps = make_batches(ready, ready.parts["train"])
    plan = Plan(
        steps=steps,
        seed=train.seed,
        schedule=train.schedule,
        warmup=train.warmup,
        max_gradient_norm=train.max_gradient_norm,
        evaluate_every=int(_number(train.evaluate_every)),
        main_score=recipe.task.main_score(multi_label=ready.dataset.multi_label),
        learning_rate=rates.shown(learned, anatomy),
    )
    optimizer = make_optimizer(
        learned, anatomy, rates, lambda name: recipe.method.rate_factor(name) * factor_of(name, factors)
    )
    return Learning(model, learned, optimizer, batches, plan)


def make_batches(ready: Ready, part: Part) -> tuple[TrainBatches | Prefetched, int]:
    """The batches that train on `part`, and how many steps the recipe makes of them."""
    train = ready.recipe.train
    batches = TrainBatches(
        part.encoded.lengths,
        _Collate(ready.recipe.task, part, ready.pretrained.processor, train.seed),
        batch_size=int(_number(train.batch_size)),
        micro_batch_size=int(_number(train.micro_batch_size)),
        seed=train.seed,
        rank=ready.device.rank,
        processes=ready.device.processes,
        group_by_length=not ready.recipe.task.packs,
    )
    steps = train.steps or max(1, math.ceil(_number(train.epochs) * batches.steps_per_epoch))
    workers = int(_number(train.workers))
    return Prefetched(batches, steps, workers) if workers else batches, steps


class _Collate:
    """Examples by number to a batch; what augmentation draws follows from (seed, epoch, example)."""

    def __init__(self, task: Task, part: Part, processor: Any, seed: int) -> None:
        self.task, self.part, self.processor, self.seed = task, part, processor, seed

    def __call__(self, indices: Sequence[int], positions: Sequence[int], epoch: int) -> Batch:
        encoded, targets = self.part.encoded, self.part.targets
        draws, partners = None, None
        if not self.task.in_tokens:
            draws = [randomness.counter_seed(self.seed, "augment", epoch, i) for i in indices]
        if self.task.partners and draws is not None:
            chosen = [[randomness.counter_seed(draw, "partner", n) % len(encoded) for n in range(self.task.partners)]
                      for draw in draws]  # fmt: skip
            partners = [[(encoded[i], targets[i]) for i in some] for some in chosen]
        return self.task.collate(
            [encoded[i] for i in indices],
            targets[list(indices)],
            self.processor,
            positions=positions,
            draws=draws,
            partners=partners,
        )


def _facts(
    recipe: Recipe, pretrained: Pretrained, dataset: Dataset, device: Device
) -> tuple[defaults.Facts, np.ndarray]:
    task, counts = recipe.task, dataset.summary.class_counts["train"]
    numbers = range(0, len(dataset.train), 1 + len(dataset.train) // LOOKED_AT)
    lengths = np.concatenate(
        [task.lengths(some, pretrained) for some in lots((dataset.train[i] for i in numbers), LOOKED_AT)]
    )
    middle, long, longest = (int(np.percentile(lengths, q)) for q in (50, 90, 99))
    cut = getattr(task, "max_length", "auto")
    most = cut if isinstance(cut, int) else int(lengths.max()) + 64  # `auto` may round up
    facts = defaults.Facts(
        train_examples=len(dataset.train),
        class_counts=counts,
        lengths=(middle, long, longest),
        model_max_length=task.longest_input(pretrained),
        hidden_size=pretrained.anatomy.hidden_size,
        fast_bfloat16=fast_at_bfloat16(device.device),
        threads=torch.get_num_threads(),
        accelerator=device.device.type != "cpu",
        cores=max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        shared=shared_bytes(),
        packs=cannot_pack(pretrained.model, most) if task.in_tokens else "",
        starts="" if defaults.head_start(recipe) == "drawn" else _cannot_start(recipe, pretrained, dataset),
    )
    return facts, lengths


def _cannot_start(recipe: Recipe, pretrained: Pretrained, dataset: Dataset) -> str:
    if not recipe.model.pretrained:
        return "the network starts at random values too, so its features mean nothing yet"
    if recipe.model.keep_labels:
        return "model.keep_labels keeps the rows of the head's old classes"
    counts = {label: dataset.summary.class_counts["train"].get(label, 0) for label in dataset.labels}
    return cannot_start(pretrained, counts, multi_label=dataset.multi_label)


def _number(value: float | str) -> float:
    assert not isinstance(value, str), "resolve() left an auto"
    return value

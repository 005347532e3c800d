"""What `auto` means: every computed default, with where its number comes from.

The person's own values are never touched. What is returned stands in the run folder: `recipe.yaml` with every value,
`manifest.json` with the origin of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from tunesmith.errors import Fault, RecipeError, did_you_mean
from tunesmith.plugin import Options
from tunesmith.recipe.recipe import Recipe

REFERENCE_HIDDEN = 384  # the width at which the methods' rates were measured (MiniLM-L6-H384)
LANGUAGE_HIDDEN = 576  # and those for language models were measured or tried at (SmolLM2-135M)
PATCH_BYTES = 16 * 16 * 3 * 4  # of a picture as the model is given it
SEEN_A_CLASS = 300  # examples of each class that a run sees at least, where classes are many


@dataclass(frozen=True, slots=True)
class Facts:
    """What the defaults depend on. lengths: the 50th, 90th and 99th percentile of training texts in tokens, or of
    pictures in patches. accelerator: whether the model runs beside the processor, which is then free to make batches.
    """

    train_examples: int
    class_counts: Mapping[str, int]
    lengths: tuple[int, int, int]
    model_max_length: int | None
    hidden_size: int
    fast_bfloat16: bool
    threads: int
    accelerator: bool = False
    cores: int = 1
    shared: int = 1 << 62
    """Bytes free where processes hand each other batches; a container may have no more than 64 MiB."""
    packs: str = ""
    """Why several examples cannot share a row on this model; empty where they can."""
    starts: str = "only a classifier of pictures does"
    """Why the head cannot start from the discriminant of its features; empty where it can."""


def resolve(recipe: Recipe, facts: Facts) -> tuple[Recipe, dict[str, str]]:
    """The recipe without any `auto`, and for each value that was filled in, where it came from."""
    recipe, origins = _resolve_task(recipe, facts)
    train, method = recipe.train, recipe.method
    chosen: dict[str, tuple[Any, str]] = {}
    batch = train.batch_size
    if batch == "auto":
        small, large = recipe.task.batch_sizes
        batch = small if facts.train_examples < 5_000 else large
        chosen["batch_size"] = (batch, f"{small} below 5,000 training examples, else {large}")
    steps_an_epoch = max(1, ceil(facts.train_examples / batch))
    if train.steps is None and train.epochs == "auto":
        seen = max(recipe.task.seen, SEEN_A_CLASS * len(facts.class_counts))
        epochs: float = max(2, min(20, ceil(seen / max(1, facts.train_examples))))
        chosen["epochs"] = (epochs, f"enough to see {seen:,} examples; at least 2, at most 20")
    else:
        epochs = train.epochs if train.epochs != "auto" else 0
    steps = train.steps or max(1, ceil(float(epochs) * steps_an_epoch))
    tokens = getattr(recipe.task, "max_length", facts.lengths[2])
    if train.micro_batch_size == "auto":
        most = recipe.task.micro_tokens
        micro = max(1, min(batch, most // max(1, int(tokens))))
        chosen["micro_batch_size"] = (micro, f"the whole batch, up to {most} tokens a forward pass")
    if train.checkpoint_activations == "auto":
        chosen["checkpoint_activations"] = (
            False,
            "kept, which is faster; --max-memory chooses otherwise where it must",
        )
    chosen |= _rates(recipe, facts)
    if train.weight_decay == "auto":
        chosen["weight_decay"] = (method.weight_decay, "the method's own")
    if train.evaluate_every == "auto":
        chosen["evaluate_every"] = (min(steps, steps_an_epoch), "once an epoch")
    evaluate_every = chosen["evaluate_every"][0] if "evaluate_every" in chosen else train.evaluate_every
    if train.checkpoint_every == "auto":
        chosen["checkpoint_every"] = (max(1, min(evaluate_every, max(20, steps // 10))), "about ten times a run")
    if train.precision == "auto":
        fast = facts.fast_bfloat16
        reason = f"the {'accelerator' if facts.accelerator else 'processor'} {'has' if fast else 'lacks'}"
        chosen["precision"] = ("bfloat16" if fast else "float32", f"{reason} fast bfloat16 arithmetic")
    if train.threads == "auto":
        chosen["threads"] = (facts.threads, "as many as torch uses on this machine")
    if train.workers == "auto":
        chosen["workers"] = _workers(recipe, facts, batch)
    origins |= {f"train.{key}": source for key, (_, source) in chosen.items()}
    return _with(recipe, train=_changed(train, {key: value for key, (value, _) in chosen.items()})), origins


def _workers(recipe: Recipe, facts: Facts, batch: int) -> tuple[int, str]:
    """Processes that make batches of pictures ahead; each keeps two steps ready, in memory that all share."""
    if not facts.accelerator or recipe.task.in_tokens:
        return 0, "every core already computes"
    wanted = max(1, min(8, facts.cores - 1))
    room = facts.shared // 2 // (2 * batch * facts.lengths[2] * PATCH_BYTES)
    if room < wanted:
        return room, "as many as shared memory (/dev/shm) has room for"
    return wanted, "the processor is free while the accelerator works"


def _rates(recipe: Recipe, facts: Facts) -> dict[str, tuple[Any, str]]:
    """Learning rates of the method's own, measured on classes of texts, on pictures or on language models; but for
    pictures they fall with the width."""
    train, method = recipe.train, recipe.method
    chosen: dict[str, tuple[Any, str]] = {}
    pictures, language = not recipe.task.in_tokens, recipe.task.goes_on
    power = 0.5 if method.adapter else 1.0
    measured_at = LANGUAGE_HIDDEN if language else REFERENCE_HIDDEN
    scale = 1.0 if pictures else min(1.0, measured_at / max(1, facts.hidden_size)) ** power
    own, source = method.learning_rate, method.learning_rate_source
    head, head_source = method.head_learning_rate, "the method's own rate for a head (docs/experiments.md)"
    if pictures:
        own, source = method.vision_rate(drawn=head_start(recipe) == "drawn")
        head = head if method.vision_head_learning_rate is None else method.vision_head_learning_rate
    if language and method.language_learning_rate is not None:
        own, source = method.language_learning_rate, method.language_learning_rate_source
    if recipe.task.head_learning_rate is not None:
        head, head_source = recipe.task.head_learning_rate, "the task's own rate for new parts (docs/experiments.md)"
        own, source = (head, head_source) if method.only_head else (own, source)
    rate = train.learning_rate
    if rate == "auto":
        share = recipe.task.rate_share
        rate = _tidy(own * scale * share)
        how = "" if scale == 1 else f", times ({measured_at} / {facts.hidden_size})^{power:g} for this width"
        how += "" if share == 1 else f", times {share:g} for this task"
        chosen["learning_rate"] = (rate, f"{source}{how}")
    if train.head_learning_rate == "auto":
        only = (rate, "as learning_rate")
        chosen["head_learning_rate"] = only if method.only_head else (_tidy(head * scale), head_source)
    return chosen


def _resolve_task(recipe: Recipe, facts: Facts) -> tuple[Recipe, dict[str, str]]:
    task: Any = recipe.task
    origins: dict[str, str] = {}
    changes: dict[str, Any] = {}
    room = None if facts.model_max_length is None else facts.model_max_length - recipe.method.added_tokens()
    given = getattr(task, "max_length", None)
    if isinstance(given, int) and room is not None and given > room:
        raise RecipeError([Fault("task.max_length", f"{given} tokens were asked for, but this model takes "
                                 f"{facts.model_max_length} and the method adds {recipe.method.added_tokens()}; "
                                 f"at most {room} fit.")])  # fmt: skip
    if given == "auto":
        wanted = 8 * ceil(facts.lengths[2] / 8)
        longest = task.longest
        limit = min(longest, room or longest)
        changes["max_length"] = max(8, min(wanted, limit))
        origins["task.max_length"] = (
            f"99th percentile of training texts is {facts.lengths[2]} tokens; at most {limit}: "
            + ("the model's own limit" if limit < longest else "longer texts rarely gain for their cost, say more here")
        )
    if (asked := getattr(task, "packing", False)) is not False:
        changes["packing"], origins["task.packing"] = _packing(recipe, facts, asked)
    if (asked := head_start(recipe)) != "drawn":
        changes["head_start"], origins["task.head_start"] = _head_start(facts, asked)
    found = task.settle(facts.train_examples, only_head=recipe.method.only_head)
    changes |= {name: value for name, (value, _) in found.items()}
    origins |= {f"task.{name}": origin for name, (_, origin) in found.items()}
    if getattr(task, "class_weights", None) == "balanced":
        total, classes = sum(facts.class_counts.values()), len(facts.class_counts)
        changes["class_weights"] = {
            label: round(total / (classes * max(1, count)), 6) for label, count in facts.class_counts.items()
        }
        origins["task.class_weights"] = "balanced: examples / (classes x examples of the class)"
    _known_classes(task, facts, recipe)
    return _with(recipe, task=_changed(task, changes)), origins


def _known_classes(task: Any, facts: Facts, recipe: Recipe) -> None:
    """RecipeError where a weight is of no class; labels that the model's head keeps may have no example."""
    given = getattr(task, "class_weights", None)
    wrong = [name for name in given if name not in facts.class_counts] if isinstance(given, dict) else []
    if wrong and not recipe.model.keep_labels:
        hint = did_you_mean(wrong[0], list(facts.class_counts))
        raise RecipeError([Fault("task.class_weights", f'"{wrong[0]}" is no class of the data.{hint}')])


def _packing(recipe: Recipe, facts: Facts, asked: bool | str) -> tuple[bool, str]:
    """Whether several examples share a row, and why. RecipeError where it was asked for and cannot be."""
    why = facts.packs
    if recipe.method.added_tokens():
        why = f"{recipe.method.name} puts learned tokens before each example"
    elif getattr(recipe.method, "dropout", 0):
        why = "the method's dropout is drawn an example at a time"
    if asked is True and why:
        raise RecipeError([Fault("task.packing", f"true was asked for, but {why}: leave it out.")])
    if asked == "auto" and not why and not facts.accelerator:
        return False, "on a processor batches of like lengths fill their rows better (docs/experiments.md)"
    return not why, why or "model and method allow it"


def head_start(recipe: Recipe) -> str:
    """Where a new head starts: `drawn`, `discriminant` or `auto`; tasks without the option draw it."""
    start: str = getattr(recipe.task, "head_start", "drawn")
    return start


def _head_start(facts: Facts, asked: str) -> tuple[str, str]:
    """Where the head starts, and why. RecipeError where the discriminant was asked for and cannot be."""
    if asked == "discriminant" and facts.starts:
        told = f"discriminant was asked for, but {facts.starts}: leave it out."
        raise RecipeError([Fault("task.head_start", told)])
    if facts.starts:
        return "drawn", facts.starts
    return "discriminant", "a new linear head over features of pictures (docs/experiments.md)"


def _tidy(rate: float) -> float:
    """Two significant digits, so that a rate reads as one would write it."""
    return float(f"{rate:.2g}")


def _changed(options: Any, changes: Mapping[str, Any]) -> Any:
    made: Options = options.model_copy(update=dict(changes))
    return made


def _with(recipe: Recipe, **sections: Any) -> Recipe:
    return recipe.model_copy(update=sections)

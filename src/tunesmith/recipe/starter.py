"""The commented recipe that `tunesmith init` writes: all options with their meanings, most switched off."""

from __future__ import annotations

import json
from typing import Any

from pydantic.fields import FieldInfo

from tunesmith.data.options import DataOptions
from tunesmith.methods import base as methods
from tunesmith.plugin import Options
from tunesmith.recipe.forgetting import ForgettingOptions
from tunesmith.recipe.recipe import ModelOptions
from tunesmith.recipe.scalars import scalar
from tunesmith.recipe.wanted import choices, members, wanted
from tunesmith.retention import base as retentions
from tunesmith.tasks import base as tasks
from tunesmith.train.options import TrainOptions

_WIDTH = 34
_OLD = "each a finished run, auto, or {source, task, data}"


_LANGUAGE, _VISION = "HuggingFaceTB/SmolLM2-135M-Instruct", "timm/resnet18.a1_in1k"
_EXAMPLES = {
    "texts": ("sentence-transformers/all-MiniLM-L6-v2", "reviews.csv"),
    "images": (_VISION, "photographs"),
    "boxes": (_VISION, "cells"),
    "chats": (_LANGUAGE, "questions.jsonl"),
    "preferences": (_LANGUAGE, "preferences.jsonl"),
}
"""A small model and a name of data for each kind, where the person named none."""


def starter(task: str, model: str | None, data: str | None, method: str = "lora") -> str:
    """A recipe for these, as YAML that is valid as it stands; the comments are the documentation of every option.

    What is None is an example that fits the task. RecipeError when the task or the method is unknown.
    """
    examples = _EXAMPLES[tasks.registry.get(task).kind]
    model, data = model or examples[0], data or examples[1]
    kinds = {"task": tasks.registry.get(task), "method": methods.registry.get(method)}
    lines = [
        "# A tunesmith recipe. What is set stands plain; every other option stands behind a `#` with its default.",
        "# `tunesmith check FILE` looks it over, `tunesmith fit FILE` runs it, `tunesmith methods` lists the methods.",
        "",
        "task:",
        *_lines("name", task, tasks.registry.describe(task)),
        *_section(kinds["task"]),
        "",
        "model:",
        *_lines("name", model, ModelOptions.model_fields["name"].description or ""),
        *_section(ModelOptions, leave="name"),
        "",
        "data:",
        *_lines("path", data, DataOptions.model_fields["path"].description or ""),
        *_section(DataOptions, leave="path"),
        "",
        "method:",
        *_lines("name", method, methods.registry.describe(method)),
        *_section(kinds["method"]),
        "",
        "train:",
        *_lines("epochs", "auto", TrainOptions.model_fields["epochs"].description or ""),
        *_section(TrainOptions, leave="epochs"),
        "",
        "forgetting:",
        f"{'  old_tasks: [auto]':<{_WIDTH}}  # {ForgettingOptions.model_fields['old_tasks'].description}; {_OLD}",
        *_section(ForgettingOptions, leave="old_tasks"),
        "",
        f"{'retention: null':<{_WIDTH}}  # what holds the old ability ({', '.join(retentions.registry.names())})",
        "",
        f"{'output: auto':<{_WIDTH}}  # the run folder; auto: runs/ and a name made from the recipe",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _lines(key: str, value: str, meaning: str) -> list[str]:
    return [f"{f'  {key}: {_written(value)}':<{_WIDTH}}  # {meaning}"]


def _section(kind: type[Options], *, leave: str = "", indent: str = "  # ") -> list[str]:
    lines: list[str] = []
    for name, field in kind.model_fields.items():
        if name == leave:
            continue
        inner = next((k for k, _ in members(field.annotation) if isinstance(k, type) and issubclass(k, Options)), None)
        if inner is not None:
            lines += [f"{indent}{name}:", *_section(inner, indent=indent + "  ")]
            continue
        lines.append(f"{f'{indent}{name}: {_default(field)}':<{_WIDTH}}  # {_meaning(field)}")
    return lines


def _meaning(field: FieldInfo) -> str:
    words = choices(field.annotation)
    if not field.description:
        return wanted(field)
    return f"{field.description} ({', '.join(words)})" if len(words) > 1 else field.description


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "..."
    value = field.get_default(call_default_factory=True)
    if isinstance(value, (tuple, list, dict)):
        return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return _written(value)


def _written(value: Any) -> str:
    """A scalar as YAML: a word stays bare where it reads back as the same word, else it is quoted."""
    if not isinstance(value, str):
        return json.dumps(value)
    clean = value.strip() == value and value.isprintable() and ": " not in value and " #" not in value
    bare = (
        clean and not value.endswith(":") and value[:1] not in tuple("-?:,[]{}#&*!|>'\"%@`") and scalar(value) == value
    )
    return value if bare else json.dumps(value, ensure_ascii=False)

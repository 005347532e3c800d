"""What a recipe can say about forgetting: which old tasks are scored, on how many examples, how much may be lost."""

from __future__ import annotations

from pydantic import Field, model_validator

from tunesmith.data.options import DataOptions, SplitOptions
from tunesmith.places import HARNESS, harness_parts
from tunesmith.plugin import Options
from tunesmith.tasks.base import Task

WORDS = ("auto", "texts")
"""Sources that are no model's name."""

HELD = SplitOptions(validation=0.25, test=0.5)
"""How data without labels are divided where nothing is said: nobody learns from them, so that half can be scored."""


def is_place(source: str) -> bool:
    """Whether an old task's source can be a path: no word such as auto, no task of the harness by its name."""
    mark, name = harness_parts(source)
    return name.endswith((".yaml", ".yml")) if mark else source not in WORDS


class OldTask(Options):
    """Something the model could do before. `old_tasks: [runs/news]` is short for `[{source: runs/news}]`."""

    source: str = Field(
        min_length=1,
        description="a finished run; or a model with a head, with task and data; or auto (without labels: does the "
        "tuned model answer as the untouched one?); or texts (loss on held-out text, with data); or harness:NAME (a "
        "task of the lm-evaluation-harness, or a task file's path)",
    )
    name: str | None = Field(None, min_length=1, description="how reports call it; else made from the source")
    task: Task | None = Field(None, description="of a model with a head: what it does")
    data: DataOptions | None = Field(None, description="examples; of a run: instead of its own")

    @model_validator(mode="after")
    def _complete(self) -> OldTask:
        if self.task is not None and self.data is None:
            raise ValueError("an old task with a task of its own needs data to score it on")
        if self.source == "texts" and self.data is None:
            raise ValueError("source: texts needs data: the held-out texts")
        if self.source in WORDS and self.task is not None:
            raise ValueError(f"source: {self.source} has no task of its own; leave task out")
        if self.source.startswith(HARNESS) and (self.task is not None or self.data is not None):
            raise ValueError(f"source: {self.source} brings its own questions and data; leave task and data out")
        if self.source in WORDS and self.data is not None and "split" not in self.data.model_fields_set:
            # Here and not where they are read: a recipe that is written out names every setting.
            object.__setattr__(self, "data", self.data.model_copy(update={"split": HELD}))
        return self


class ForgettingOptions(Options):
    """Old tasks are scored before the first step and at the end, with the method on and off."""

    old_tasks: tuple[OldTask, ...] = Field(
        (OldTask(source="auto"),), description="what the model could do before; []: nothing is looked at"
    )
    rows: int = Field(500, ge=10, le=1_000_000, description="examples of each old task that are scored, at most")
    at_evaluations: bool = Field(False, description="also score old tasks whenever the new one is evaluated")
    at_most: float | None = Field(
        None, ge=0, description="checkpoint rule: the best among those that forget at most so much of any old task"
    )

    @model_validator(mode="after")
    def _names_differ(self) -> ForgettingOptions:
        names = [task.name for task in self.old_tasks if task.name is not None]
        if len(set(names)) < len(names):
            raise ValueError("two old tasks have the same name; reports could not tell them apart")
        return self

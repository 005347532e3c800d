"""Recipe: everything that decides a run, read from YAML, a mapping and dotted settings, checked before any work."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tunesmith.data.options import PLACES, DataOptions
from tunesmith.errors import RecipeError, did_you_mean
from tunesmith.methods import base as methods
from tunesmith.methods.base import Method
from tunesmith.pictures.augment import Augment
from tunesmith.pictures.box_augment import BoxAugment
from tunesmith.plugin import Options, Plugin
from tunesmith.recipe.forgetting import ForgettingOptions, OldTask, is_place
from tunesmith.recipe.overrides import override
from tunesmith.recipe.read import read_written
from tunesmith.recipe.scalars import Written
from tunesmith.recipe.validate import Validator
from tunesmith.recipe.wanted import choices
from tunesmith.retention import base as retentions
from tunesmith.retention.base import Retention
from tunesmith.tasks import base as tasks
from tunesmith.tasks.base import Task
from tunesmith.train.options import TrainOptions

DEFAULT_METHOD = "lora"


class ModelOptions(Options):
    """The pretrained model. `model: NAME` is short for `model: {name: NAME}`."""

    name: str = Field(
        min_length=1,
        description="hub name, folder, file, package:NAME/sub/path; for pictures also timm/NAME or torchvision/NAME",
    )
    revision: str | None = Field(None, min_length=1, description="branch, tag or commit of a hub model")
    backbone: str | None = Field(
        None, min_length=1, description="a classifier of timm below torchvision/faster_rcnn, retinanet or fcos (boxes)"
    )
    weights: str | None = Field(None, min_length=1, description="a weight file for a network named by name (pictures)")
    pretrained: bool = Field(True, description="false: draw every weight anew and train from scratch (pictures)")
    bits: Annotated[int, Field(ge=4, le=8, multiple_of=4)] | None = Field(
        None, description="store the frozen linear layers in so few bits (language models; extra quantised)"
    )
    keep_labels: bool = Field(
        False, description="keep the classes that the pretrained head knows beside those of the data"
    )

    @property
    def network(self) -> str:
        """The name of what brings pretrained weights: the backbone where one is named, else the model."""
        return self.backbone or self.name


class Recipe(Options):
    """One run: what is learned, from which model, on which data, by which method, how, and where it is written."""

    task: Task = Field(description="what is learned: a name, or name and options", examples=["text_classification"])
    model: ModelOptions = Field(
        description="the pretrained model to start from", examples=["sentence-transformers/all-MiniLM-L6-v2"]
    )
    data: DataOptions = Field(description="the examples to learn from", examples=["reviews.csv"])
    method: Method = Field(
        default_factory=lambda: methods.registry.make(DEFAULT_METHOD),
        description="what of the model learns: a method's name, or name and options",
    )
    train: TrainOptions = Field(default_factory=TrainOptions, description="how it is trained")
    forgetting: ForgettingOptions = Field(
        default_factory=ForgettingOptions, description="what the model could do before, to be scored again"
    )
    retention: Retention | None = Field(
        None, description="what holds the old ability: a name, or name and options; null: nothing"
    )
    output: str = Field("auto", min_length=1, description="the run folder; auto: runs/ and a name made from the recipe")

    @classmethod
    def read(cls, path: str | Path | None, *overrides: str) -> Recipe:
        """The recipe in a YAML file, with dotted settings such as `method.rank=16` put over it.

        Without a path the settings alone make the recipe. A relative path of data or model that stands in the file
        means the current folder, or, when nothing is there, the folder of the recipe file; one given as a setting
        always means the current folder. RecipeError holds every fault, each with its line.
        """
        settings: dict[str, Any] = {}
        lines: dict[str, int] = {}
        if path is not None:
            settings, lines = read_written(path)
            settings = _anchored(settings, Path(path).parent)
        settings, lines = _overridden(settings, lines, overrides)
        return cls.make(settings, file=str(path) if path is not None else "", lines=lines)

    def changed(self, *overrides: str) -> Recipe:
        """The same recipe with dotted settings such as `train.epochs=2` put over it. RecipeError as for `read`."""
        settings, lines = _overridden(self.as_dict(), {}, overrides)
        return type(self).make(settings, lines=lines)

    @classmethod
    def make(cls, settings: Mapping[str, Any], *, file: str = "", lines: Mapping[str, int] | None = None) -> Recipe:
        """A recipe from a mapping as YAML would give it; sections may also be options or plugins already made."""
        validator = Validator(
            {Task: tasks.registry, Method: methods.registry, Retention: retentions.registry}, _SHORT, lines or {}
        )
        made = validator.build(cls, settings)
        if made is not None and made.model.backbone is not None:
            made = _over_backbone(made, validator)
        if made is None or validator.faults:
            raise RecipeError(sorted(validator.faults, key=lambda fault: fault.line), file=file)
        return made

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain values for YAML or JSON, defaults written out; `make` reads it back to an equal one."""
        return {key: _plain(getattr(self, key)) for key in type(self).model_fields}


_SHORT: Mapping[type[Options], str] = {
    ModelOptions: "name",
    DataOptions: "path",
    Augment: "preset",
    BoxAugment: "preset",
    OldTask: "source",
}
_SHORT_BY_SECTION = {"task": "name", "model": "name", "data": "path", "method": "name", "retention": "name"}
_PATHS = (
    ("model", "name"),
    ("model", "backbone"),
    ("model", "weights"),
    *(("data", name) for name in PLACES),
)


def _over_backbone(made: Recipe, validator: Validator) -> Recipe:
    """The recipe with `task.detector` as `model.name` says it; faults where the two do not go together."""
    task, name, backbone = made.task, made.model.name, made.model.backbone
    if "detector" not in type(task).model_fields:
        told = f"goes below a detector, and {type(task).name} has none. Write model: {backbone}"
        validator.add("model.backbone", told)
        return made
    library, _, detector = name.rpartition("/")
    known = choices(type(task).model_fields["detector"].annotation)
    if library not in ("", "torchvision") or detector not in known:
        validator.add(
            "model.name",
            f"must be torchvision/{', torchvision/'.join(known)} where a backbone is named; found {name}."
            f"{did_you_mean(detector, known)} A detector with another name has its own: leave model.backbone out.",
        )
    elif "detector" in task.model_fields_set and getattr(task, "detector", None) != detector:
        validator.add("task.detector", f"is another than model.name says, {detector}. Leave one of the two out.")
    return made.model_copy(update={"task": task.model_copy(update={"detector": detector})})


def _overridden(
    settings: dict[str, Any], lines: dict[str, int], overrides: Sequence[str]
) -> tuple[dict[str, Any], dict[str, int]]:
    """Settings and their lines after the overrides; what was overridden stands on line 0."""
    if any(assignment.startswith("method.") for assignment in overrides):
        settings = {"method": DEFAULT_METHOD, **settings}
    for assignment in overrides:
        settings, path = override(settings, assignment, short=_SHORT_BY_SECTION)
        lines = {p: line for p, line in lines.items() if p != path and not p.startswith(path + ".")} | {path: 0}
    return settings, lines


def _plain(value: Any) -> Any:
    if isinstance(value, Options):
        fields = {key: _plain(getattr(value, key)) for key in type(value).model_fields}
        return (
            {"name": value.name or type(value).__module__.rpartition(".")[2], **fields}
            if isinstance(value, Plugin)
            else fields
        )
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _anchored(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with each path that exists only beside the recipe file rewritten to stand there."""
    found = dict(settings)
    for section, option in _PATHS:
        value = found.get(section)
        if isinstance(value, Mapping):
            if option in value:
                found[section] = {**value, option: _beside(value[option], folder)}
        elif option == _SHORT_BY_SECTION[section]:
            found[section] = _beside(value, folder)
    forgetting = found.get("forgetting")
    if isinstance(forgetting, Mapping) and isinstance(forgetting.get("old_tasks"), list):
        anchored = [_anchored_old(each, folder) for each in forgetting["old_tasks"]]
        found["forgetting"] = {**forgetting, "old_tasks": anchored}
    return {key: value for key, value in found.items() if key in settings}


def _anchored_old(task: Any, folder: Path) -> Any:
    """An old task with its source and its data beside the recipe file, where they stand there only."""
    if not isinstance(task, Mapping):
        return _beside_source(task, folder)
    found = dict(task)
    if "source" in found:
        found["source"] = _beside_source(found["source"], folder)
    data = found.get("data")
    if isinstance(data, Mapping):
        found["data"] = {key: _beside(value, folder) if key in PLACES else value for key, value in data.items()}
    elif data is not None:
        found["data"] = _beside(data, folder)
    return found


def _beside_source(value: Any, folder: Path) -> Any:
    text = value.text if isinstance(value, Written) else value
    return _beside(value, folder) if isinstance(text, str) and is_place(text) else value


def _beside(value: Any, folder: Path) -> Any:
    text = value.text if isinstance(value, Written) else value
    if not isinstance(text, str) or not text or os.path.exists(text) or glob.glob(text):
        return value
    beside = str(folder / text)
    return beside if os.path.exists(beside) or glob.glob(beside) else value

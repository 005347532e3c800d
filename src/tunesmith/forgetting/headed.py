"""An old task with a head and labels: its head is put onto the model that learns, and its own examples are scored."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.evaluate.evaluate import logits_of
from tunesmith.forgetting import distance
from tunesmith.forgetting.base import Opening
from tunesmith.forgetting.features import features, in_float32, inner_model, logits
from tunesmith.forgetting.measures import turned
from tunesmith.forgetting.work import LEARNED, Draws, OldParts
from tunesmith.models.first_token import all_tokens
from tunesmith.models.head_swap import with_head
from tunesmith.models.vision_described import Described, describe
from tunesmith.tasks.base import Task
from tunesmith.train.randomness import use_counter_dropout
from tunesmith.types import Batch, Interval, Loss, Pretrained


@dataclass(frozen=True, slots=True)
class OldHead:
    """Modules that turn features into an old task's answers, by the names they have in the new run's model.

    labels: what its outputs mean; empty where no one knows.
    """

    modules: Mapping[str, nn.Module]
    labels: tuple[str, ...]
    multi_label: bool = False


def head_of(
    model: nn.Module, pretrained: Pretrained, labels: Sequence[str], *, multi_label: bool, whose: str
) -> OldHead:
    """A copy of the old model's head, frozen, in evaluation mode. ModelError where it does not fit the new model.

    model: the old one, perhaps in peft's wrapper. whose: the old task, in words.
    """
    old, new = inner_model(model), pretrained.model
    if type(old) is not type(new):
        raise ModelError(
            f"{whose} has a {type(old).__name__}, and this run's model is a {type(new).__name__}: the old head cannot "
            "read the new model's features. Start from the old run (model: its folder), or leave this old task out."
        )
    modules = {name: _copied(old, name, whose) for name in pretrained.anatomy.head}
    for name, module in modules.items():
        mine, theirs = _shapes(new.get_submodule(name)), _shapes(module)
        if mine != theirs:
            odd = sorted(own for own in {*mine, *theirs} if mine.get(own) != theirs.get(own))[0]
            raise ModelError(
                f"{whose}: its head does not fit this run's model: {name}.{odd} takes {_said(theirs.get(odd))}, here "
                f"{_said(mine.get(odd))}. Both must be of the same size: start from the old run's model, or leave this "
                "old task out."
            )
    return OldHead(modules, tuple(labels), multi_label)


def _copied(old: nn.Module, name: str, whose: str) -> nn.Module:
    try:
        module: Any = old.get_submodule(name)
    except AttributeError as error:
        raise ModelError(f"{whose}: its model has no part {name}, which is this model's head.") from error
    if hasattr(module, "modules_to_save"):  # peft's wrapper: the head that was learned beside the adapter
        module = module.modules_to_save[module.active_adapters[0]]
    copied: nn.Module = copy.deepcopy(module).requires_grad_(False).eval()
    use_counter_dropout(copied)
    return copied


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of each parameter but for its outputs, which may differ in number."""
    return {name: tuple(parameter.shape[1:]) for name, parameter in module.named_parameters()}


def _said(shape: tuple[int, ...] | None) -> str:
    return "nothing (there is none)" if shape is None else " x ".join(map(str, shape)) or "one value an output"


@contextmanager
def as_old(model: nn.Module, head: OldHead) -> Iterator[None]:
    """While the block runs, the model answers with the old head, and says that its classes are the old ones."""
    inner = inner_model(model)
    config: Any = getattr(inner, "config", None)
    described = vars(inner).get("described")
    names = getattr(config, "id2label", None)
    with with_head(model, head.modules):
        try:
            if isinstance(names, dict):
                config.id2label = dict(enumerate(head.labels))
            if isinstance(described, Described):
                describe(inner, replace(described, labels=head.labels, multi_label=head.multi_label))
            yield
        finally:
            if isinstance(names, dict):
                config.id2label = names
            if isinstance(described, Described):
                describe(inner, described)


class Headed:
    """An open old task with labels (see `base.OpenTask`)."""

    labelled = has_examples = True

    def __init__(
        self, kind: str, opening: Opening, task: Task, head: OldHead, parts: OldParts, *, thresholds: Any = None
    ) -> None:
        self.kind, self.name, self.task, self.head = kind, opening.name, task, head
        self.main = task.main_score(multi_label=head.multi_label)
        self.definition, self.parts = "", opening.scored(parts.names)
        self.thresholds = None if thresholds is None else np.asarray(thresholds)
        self._opening, self._part = opening, parts
        for module in head.modules.values():
            opening.device.place(module)
        self._draws = Draws(
            opening.name,
            task,
            parts.processor,
            lambda: parts(LEARNED),
            opening.device,
            opening.seed,
            opening.batch_size,
            with_targets=True,
        )
        self._try_out()

    def rows(self, part: str) -> int:
        """Examples that are scored."""
        return len(self._part(part).targets)

    def answers(self, model: nn.Module, part: str) -> np.ndarray:
        """Raw answers with the old head, as `Task.predict` gives them."""
        device = self._opening.device
        with as_old(model, self.head), in_float32(device), all_tokens(model):
            encoded, processor = self._part(part).encoded, self._part.processor
            return logits_of(model, encoded, task=self.task, processor=processor, device=device)

    def untouched(self, part: str) -> np.ndarray:
        """Answers of the untouched model; to be asked while it still is as it was read."""
        return self.answers(self._opening.pretrained.model, part)

    def score(self, answers: np.ndarray, part: str) -> dict[str, float]:
        """The old task's own scores, by the thresholds of its run."""
        held = self._part(part)
        return self.task.score(answers, held.targets, held.labels, self.thresholds)

    def forgetting(self, first: np.ndarray, last: np.ndarray, part: str) -> Interval:
        """Main score of `first` minus that of `last`, with the task's own paired interval."""
        held, shift = self._part(part), 0 if self.thresholds is None else self.thresholds
        change = self.task.intervals(
            first - shift, last - shift, held.targets, held.labels, None, seed=self._opening.seed
        )[2]
        assert change is not None
        return turned(change, self.main)

    def batch(self, step: int, count: int) -> Batch:
        """Training examples with their labels, drawn by `step` alone."""
        return self._draws.batch(step, count)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The old task's loss with its own head."""
        with as_old(model, self.head):
            return self.task.loss(model, batch)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits [examples, classes] of the old head; of a detector, features of its backbone."""
        with as_old(model, self.head):
            if self.task.kind == "boxes":
                return features(model, batch, self.task, self._opening.pretrained.anatomy)
            return logits(model, batch)

    def distance(self, now: Tensor, before: Tensor, temperature: float) -> Tensor:
        """Divergence of softened answers; between features their relative squared distance."""
        if self.task.kind == "boxes":
            return distance.between_features(now, before)
        return distance.between_logits(now, before, temperature, multi_label=self.head.multi_label)

    def _try_out(self) -> None:
        """One example through the untouched model with this head; ModelError in words where that fails."""
        opening, held = self._opening, self._part(self.parts[0])
        batch = self.task.collate([held.encoded[0]], None, self._part.processor)
        model = opening.pretrained.model.eval()
        try:
            with as_old(model, self.head):
                self.task.predict(model, opening.device.move(batch))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError) as fault:
            words = " ".join(str(fault).split())[:200]
            raise ModelError(
                f"The old task {self.name} cannot be asked on this run's model ({type(model).__name__}): {words}. "
                "Start from the old run's model, with inputs of the same size, or leave this old task out."
            ) from fault

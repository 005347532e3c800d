"""A picture classifier of timm, torchvision or transformers with the person's labels: read, checked, parts named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.vision_anatomy import find_vision_anatomy
from tunesmith.models.vision_described import Described, describe
from tunesmith.models.vision_form import timm_test_form
from tunesmith.models.vision_heads import Names, fit_outputs, kept_rows, replace_output
from tunesmith.models.vision_read import Read, drawing, fingerprint
from tunesmith.models.vision_resize import set_size
from tunesmith.models.vision_source import DRAWN, is_drawn
from tunesmith.types import ModelSource, PictureForm, Pretrained

_ADVICE = {
    "task.size": "Set task.size to one that it can, or leave it out.",
    "task.test_size": "It is bound to the size that it trains at, as networks with a position for each patch are: "
    "leave task.test_size out and raise task.size, or take one that reads any size (a conv net, transformers' DINOv2).",
}


def load_image_classifier(
    source: ModelSource,
    labels: Sequence[str],
    *,
    multi_label: bool,
    seed: int,
    size: int | tuple[int, int] | None = None,
    test_size: int | Literal["model"] | None = None,
) -> Pretrained:
    """The source's network in evaluation mode, float32, with one output a label; its processor is a PictureForm.

    Labels that the pretrained classifier knows by name keep their rows; new rows, and with `pretrained: false` all
    weights, are drawn from `seed`. size: pixels of a picture's side, or (height, width); None: the model's own.
    test_size: pixels of a side outside of training, "model" for what the network's own config recommends; None: as in
    training. ModelError for files that are broken, unsafe or of another network, and for a size that it cannot take.
    """
    read = read_source(source, labels, seed)
    known = () if _is_new(read) else tuple(labels[place] for place in sorted(kept_rows(read.known, labels)))
    drawn = set(read.drawn) | _fit_labels(read, source.library, labels, seed)
    model: Any = read.model
    _tell_labels(model, source.library, labels, multi_label=multi_label)
    form, arguments, sides = read.form, dict(read.arguments), (size, size) if isinstance(size, int) else size
    if sides is not None and sides != (form.height, form.width):
        model, arguments = set_size(model, source.library, sides, arguments)
        form = replace(form, height=sides[0], width=sides[1])
    model = model.float().eval()
    _try(model, form, len(labels), "task.size")
    if test_size is not None:
        form = _for_tests(model, form, test_size)
        _try(model, form, len(labels), "task.test_size")
    if is_drawn(source):
        drawn |= {f"{name}.{own}" for name in read.outputs for own, _ in model.get_submodule(name).named_parameters()}
        source = replace(source, sha256={**source.sha256, DRAWN: fingerprint(model)})
    describe(model, Described(tuple(labels), multi_label, seed, sides, arguments, test_size))
    anatomy = find_vision_anatomy(model, library=source.library, newly_drawn=drawn, form=form)
    return Pretrained(model, form, anatomy, source, source.library, known)


def known_names(source: ModelSource, labels: Sequence[str]) -> Names:
    """The names that each output of the source's own classifier goes by; empty where it has none that are known."""
    return read_source(source, labels, 0).known


def read_source(source: ModelSource, labels: Sequence[str], seed: int) -> Read:
    """The network as its files bring it, its own classifier included; labels and seed for what they do not hold."""
    with vet.reading(Path(source.path), source.library):
        return _reader(source.library)(source, labels, seed)


def _reader(library: str) -> Callable[[ModelSource, Sequence[str], int], Read]:
    """Only the library that is asked for is imported."""
    if library == "timm":
        from tunesmith.models.vision_timm import read_timm

        return read_timm
    if library == "torchvision":
        from tunesmith.models.vision_torchvision import read_torchvision

        return read_torchvision
    from tunesmith.models.vision_transformers import read_transformers

    return read_transformers


def _fit_labels(read: Read, library: str, labels: Sequence[str], seed: int) -> set[str]:
    """One output a label; names of the parameters with new rows. A classifier already drawn for them stays."""
    model: Any = read.model
    if not read.known and _count(model, read.outputs[0]) == len(labels) and _is_new(read):
        return set()

    def resize(count: int) -> None:
        with drawing(seed):
            for name in read.outputs:
                replace_output(model, name, count)
            if library == "transformers":
                from tunesmith.models.vision_transformers import begin_outputs

                begin_outputs(model, read.outputs)

    return fit_outputs(model, read.outputs, read.known, labels, resize)


def _is_new(read: Read) -> bool:
    """Whether no file brought the output layer: then it was drawn from the seed already."""
    mine = {f"{read.outputs[0]}.{own}" for own, _ in read.model.get_submodule(read.outputs[0]).named_parameters()}
    return read.all_drawn or bool(mine & read.drawn)


def _count(model: nn.Module, name: str) -> int:
    weight: Any = model.get_submodule(name).weight
    return int(weight.shape[0])


def _tell_labels(model: Any, library: str, labels: Sequence[str], *, multi_label: bool) -> None:
    """The person's labels in the config that the library keeps on its networks."""
    if library == "timm":
        model.pretrained_cfg = {**model.pretrained_cfg, "num_classes": len(labels), "label_names": list(labels)}
        model.pretrained_cfg.pop("label_descriptions", None)
    elif library == "transformers":
        from tunesmith.models.vision_transformers import set_labels

        set_labels(model.config, labels, multi_label=multi_label)


def _for_tests(model: nn.Module, form: PictureForm, test_size: int | Literal["model"]) -> PictureForm:
    """The form with another size outside of training. ModelError for a size below that of training."""
    found = timm_test_form(model, form) if test_size == "model" else replace(form, height=test_size, width=test_size)
    if found is None:
        raise ModelError(
            f"task.test_size: model, but the configuration of {type(model).__name__} names no size for tests. "
            f"Write a number of pixels: about {round(form.height * 1.15 / 32) * 32} where it trains at {form.height}."
        )
    if found.height < form.height or found.width < form.width:
        raise ModelError(
            f"task.test_size is {found.height} pixels, fewer than the {form.height} of training. Write {form.height} "
            "or more, or a smaller task.size."
        )
    sides = form.height, form.width
    return found if (found.height, found.width) == sides else replace(found, train=sides)


def _try(model: nn.Module, form: PictureForm, count: int, option: str) -> None:
    """One grey picture through the network; ModelError unless one finite answer a label comes out."""
    try:
        with torch.no_grad():
            answer = model(torch.zeros(1, 3, form.height, form.width))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot take a picture of {form.height} x {form.width} pixels: "
            f"{' '.join(str(error).split())[:300]}. {_ADVICE[option]}"
        ) from error
    logits = getattr(answer, "logits", answer)
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, count):
        found = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(
            f"{type(model).__name__} answers a picture with {found}, not one value for each of {count} labels."
        )
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"{type(model).__name__} answers a grey picture with values that are not finite.")

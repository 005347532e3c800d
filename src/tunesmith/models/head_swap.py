"""The head of one task on the network of another: put in for a while, and what was there comes back.

A head's modules go by the names that they have in the untouched model (`Anatomy.head`); what a method has put around
them, peft's prefix and its copy of the head that learns, is found and replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models.stand_in import FOREIGN, attribute

_PREFIXES = ("", "base_model.model.", "base_model.")
"""Of a plain model, and of peft's around layers and around a prompt."""

_COUNTS = ("num_classes", "num_columns")
"""What torchvision's detectors keep beside a class layer of convolutions: how many of its channels are one anchor's."""


@contextmanager
def with_head(model: nn.Module, head: Mapping[str, nn.Module]) -> Iterator[None]:
    """The modules of `head` in place of the model's of these names, everywhere the model holds them.

    They take the mode, training or evaluation, of what they replace, and get their own back. Their number of classes
    may differ, and a part of the head that is not named stays. Calls may be nested. ModelError for an unknown name.
    """
    found = [(name, *_find(model, name), module) for name, module in head.items()]
    modes = [(part, part.training) for module in head.values() for part in module.modules()]
    before = [
        (holder, own, old)
        for *_, old, _ in found
        for holder in model.modules()
        for own, child in holder._modules.items()
        if child is old
    ]
    counts = [each for _, path, old, module in found for each in _class_counts(model, path, old, module)]
    new = {id(old): module for *_, old, module in found}
    try:
        with ExitStack() as stack:
            for around, count, classes in counts:
                stack.enter_context(attribute([around], count, classes))
            stack.enter_context(attribute(new.values(), FOREIGN, True))
            for holder, own, old in before:
                holder._modules[own] = new[id(old)].train(old.training)
            yield
    finally:
        for holder, own, old in before:
            holder._modules[own] = old
        for part, training in modes:
            part.training = training


def _find(model: nn.Module, name: str) -> tuple[str, nn.Module]:
    """Where the module stands in this model, and the module itself with what wraps it."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for prefix in _PREFIXES:
        if name and prefix + name in modules:
            return prefix + name, modules[prefix + name]
    last = name.rpartition(".")[2]
    near = ", ".join([n for n in modules if n.rpartition(".")[2] == last][:3]) or ", ".join(
        [n for n, _ in model.named_children()][:6]
    )
    raise ModelError(
        f'This model has no module "{name}" that a head could take the place of; it has {near}. An earlier head fits '
        "a model of the same architecture: start both runs from the same pretrained model."
    )


def _class_counts(model: nn.Module, path: str, old: nn.Module, new: nn.Module) -> Iterator[tuple[nn.Module, str, int]]:
    """How many classes the module around a class layer of convolutions must reckon with: (it, name, number)."""
    plain = getattr(old, "original_module", old)  # below peft's copy
    if not isinstance(plain, nn.Conv2d) or not isinstance(new, nn.Conv2d):
        return
    holder = path.rpartition(".")[0]
    while holder:
        around = model.get_submodule(holder)
        for count in _COUNTS:
            classes = vars(around).get(count)
            if isinstance(classes, int):
                yield around, count, new.out_channels * classes // plain.out_channels
                return
        holder = holder.rpartition(".")[0]

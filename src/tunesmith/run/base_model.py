"""The base model of a run: found by its name, in few bits where that was asked for, and fit for the method."""

from __future__ import annotations

from tunesmith.errors import Fault, RecipeError
from tunesmith.methods.base import Method, registry
from tunesmith.models.quantised import bits_of
from tunesmith.models.quantised_copy import quantised
from tunesmith.recipe.recipe import ModelOptions
from tunesmith.tasks.base import Task
from tunesmith.types import ModelSource, Pretrained


def find_base(task: Task, told: ModelOptions, name: str) -> ModelSource:
    """Where the model of this name is, as a recipe's `model` tells: revision, weights, bits. RecipeError for bits with
    a task that has no language model; else as `Task.find_model` and `quantised`."""
    if told.bits and not task.goes_on:
        raise RecipeError([Fault("model.bits", f"{task.name} learns with all bits: leave it out. It is there for "
                                 "causal_lm and preference, whose models are large.")])  # fmt: skip
    source = task.find_model(name, revision=told.revision, weights=told.weights, pretrained=told.pretrained)
    return quantised(source, told.bits) if told.bits else source


def check_method(pretrained: Pretrained, method: Method) -> None:
    """RecipeError where the model's layers are stored in few bits and the method would have them change."""
    if why := needs_all_bits(pretrained, method):
        raise RecipeError([Fault("method", why)])


def needs_all_bits(pretrained: Pretrained, method: Method) -> str:
    """Why a method cannot serve a model whose layers are stored in few bits; empty where it can, or they are not."""
    bits = bits_of(pretrained.model)
    if not bits or method.beside_few_bits:
        return ""
    able = ", ".join(sorted(name for name in registry.names() if registry.get(name).beside_few_bits))
    return (
        f"{type(method).name} would learn, deliver or be added into weights of the model, and those of this one are "
        f"stored in {bits} bits and stay as they are. What learns beside them: {able}."
    )

"""Parts of a model that learn at rates of their own, or not at all, as the task says (`Task.rate_factors`)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from tunesmith.errors import Fault, RecipeError
from tunesmith.methods.base import Method


def factor_of(name: str, factors: Mapping[str, float]) -> float:
    """By what the rate of a learned tensor is multiplied for the part that it is in; 1 outside of them."""
    return next((factor for part, factor in factors.items() if f".{part}." in f".{name}."), 1.0)


def hold_still(model: nn.Module, method: Method, factors: Mapping[str, float]) -> None:
    """Let parts whose factor is 0 not learn, in place. RecipeError where that leaves nothing, or the method would let
    everything learn in the end."""
    if 0 not in factors.values():
        return
    name = type(method).name
    if method.whole_from(1_000) > 1:
        told = f"0 keeps a part as it is, and {name} lets all of the model learn in the end. Take full."
        raise RecipeError([Fault("task.parts", told)])
    for own, parameter in model.named_parameters():
        if factor_of(own, factors) == 0:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        told = f"nothing is left to learn of what {name} lets learn: give another part a factor above 0."
        raise RecipeError([Fault("task.parts", told)])

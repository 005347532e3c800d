"""AdamW with its groups: no decay on norms and biases, a rate of its own for the head, lower ones below."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.types import Anatomy


@dataclass(frozen=True, slots=True)
class Rates:
    """Highest rates of body and head, decay, and the factor from one block to the one below."""

    body: float
    head: float
    weight_decay: float
    layer_decay: float

    def shown(self, learned: Iterable[str], anatomy: Anatomy) -> float:
        """The rate that stands for the run: the body's where any of it learns, else the head's."""
        return self.head if all(_in_head(name, anatomy) for name in learned) else self.body


def make_optimizer(
    learned: Mapping[str, Tensor],
    anatomy: Anatomy,
    rates: Rates,
    factor: Callable[[str], float] = lambda name: 1.0,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) over the learned tensors that are parameters.

    factor: by what a tensor's rate is multiplied, given its name (`Method.rate_factor`).

    Each group keeps its highest rate as `peak`; the loop multiplies it by the schedule.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, tensor in learned.items():
        if not isinstance(tensor, nn.Parameter):
            continue
        decay = rates.weight_decay if tensor.dim() >= 2 else 0.0
        groups.setdefault((_peak(name, anatomy, rates) * factor(name), decay), []).append(tensor)
    return torch.optim.AdamW(
        [
            {"params": tensors, "lr": peak, "peak": peak, "weight_decay": decay}
            for (peak, decay), tensors in groups.items()
        ],
        fused=True,
    )


def _in_head(name: str, anatomy: Anatomy) -> bool:
    return any(f".{part}." in f".{name}." for part in anatomy.head)


def _peak(name: str, anatomy: Anatomy, rates: Rates) -> float:
    depth = len(anatomy.blocks)
    if _in_head(name, anatomy):
        return rates.head
    for number, block in enumerate(anatomy.blocks):
        if f".{block}." in f".{name}.":
            return rates.body * rates.layer_decay ** (depth - 1 - number)
    # a part may be a bare parameter, as a vision transformer's pos_embed is
    inside_embeddings = any(f".{part}." in f".{name}." for part in anatomy.embeddings)
    return rates.body * (rates.layer_decay**depth if inside_embeddings else 1.0)


def optimizer_state(optimizer: torch.optim.Optimizer, learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The optimizer's tensors under the learned tensors' names: `NAME/exp_avg`, `NAME/exp_avg_sq`, `NAME/step`."""
    state: dict[str, Tensor] = {}
    for name, tensor in learned.items():
        for key, value in optimizer.state.get(tensor, {}).items():
            state[f"{name}/{key}"] = value
    return state


def restore_optimizer(
    optimizer: torch.optim.Optimizer, learned: Mapping[str, Tensor], saved: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_state` gave."""
    for name, tensor in learned.items():
        keys: dict[str, Any] = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if f"{name}/{key}" in saved:
                value = saved[f"{name}/{key}"].clone()
                # in the tensor's own layout: the fused update walks through memory, not through indices
                keys[key] = (
                    value.to(tensor.device)
                    if key == "step"
                    else torch.empty_like(tensor, dtype=value.dtype).copy_(value)
                )
        if keys:
            optimizer.state[tensor] = keys

"""How far answers are from those of the untouched model, with gradient: what distillation makes small."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def between_logits(now: Tensor, before: Tensor, temperature: float, *, multi_label: bool = False) -> Tensor:
    """T^2 KL(softmax(before / T) || softmax(now / T)), a mean over examples (Hinton et al. 2015, arXiv:1503.02531,
    section 2; Li and Hoiem 2016, arXiv:1606.09282, eq. 3 up to a constant). now, before: [examples, classes].

    multi_label: the mean over classes of the divergence between yes and no, by the sigmoid, stands for it.
    """
    now, before = now.float() / temperature, before.detach().float() / temperature
    if not multi_label:
        each = functional.kl_div(now.log_softmax(-1), before.log_softmax(-1), reduction="none", log_target=True)
        return temperature**2 * each.sum(dim=-1).mean()
    wanted = before.sigmoid()
    yes = functional.logsigmoid(before) - functional.logsigmoid(now)
    no = functional.logsigmoid(-before) - functional.logsigmoid(-now)
    return temperature**2 * (wanted * yes + (1 - wanted) * no).mean()


def between_features(now: Tensor, before: Tensor) -> Tensor:
    """Squared distance of features [examples, size], relative to the squares of those before."""
    before = before.detach().float()
    return (now.float() - before).square().sum() / before.square().sum().clamp_min(torch.finfo(torch.float32).tiny)

"""Which anchors and regions a two-stage detector learns from in a step, drawn by counter.

torchvision's BalancedPositiveNegativeSampler draws from torch's global generator, picture after picture, so that a
picture's draw hangs on the pictures before it. Here it follows from seed, step and the picture's place in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tunesmith.train.randomness import draws_for


def sampled(labels: Sequence[Tensor], *, size: int, positive_share: float, what: str) -> list[Tensor]:
    """Per picture the sorted indices of the drawn boxes, at most `size`, at most this share of them positive.

    labels: per picture [boxes]: 1 and above positive, 0 negative, below 0 never drawn.
    """
    chosen = []
    for place, own in enumerate(labels):
        draws = draws_for(place, what)
        positive, negative = torch.where(own >= 1)[0], torch.where(own == 0)[0]
        positives = min(positive.numel(), int(size * positive_share))
        negatives = min(negative.numel(), size - positives)
        first = torch.randperm(positive.numel(), generator=draws)[:positives].to(own.device)
        second = torch.randperm(negative.numel(), generator=draws)[:negatives].to(own.device)
        chosen.append(torch.cat([positive[first], negative[second]]).sort().values)
    return chosen

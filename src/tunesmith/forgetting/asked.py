"""Which tokens of a batch a language model is asked for, and what it says there, with gradient.

Logits are [places, vocabulary]: for a whole batch of a large vocabulary they do not fit beside a training step. So an
even choice of places stands for all; which ones follows from the batch alone, so that a model asked twice is asked the
same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tunesmith.chats import UNLEARNED
from tunesmith.models.chunked_head import label_logits
from tunesmith.tasks._language import forward_inputs
from tunesmith.types import Batch

PLACES = 256
"""Places of a training batch that are asked, at most: with 50,000 words their logits are 50 MiB."""

_READ = ("input_ids", "attention_mask", "position_ids", "segments")


def next_token_logits(model: nn.Module, batch: Batch, *, most: int = PLACES) -> Tensor:
    """Logits [places, vocabulary] in float32 of the tokens that `asked` marks. batch: of a language task, padded or
    packed; what else it holds is left aside."""
    read = Batch({name: batch.inputs[name] for name in _READ if name in batch.inputs}, None, batch.positions)
    return label_logits(model, forward_inputs(read), asked(read, most=most))


def asked(batch: Batch, *, most: int = PLACES) -> Tensor:
    """The token id at each place that is asked, `UNLEARNED` elsewhere, int64 [rows, tokens]: at most `most`, evenly
    spaced among those with a token before them in their own text."""
    ids, inside = batch.inputs["input_ids"], batch.inputs["attention_mask"].bool()
    own = batch.inputs.get("segments", inside.long())
    there = torch.zeros_like(inside)
    there[:, 1:] = inside[:, 1:] & inside[:, :-1] & (own[:, 1:] == own[:, :-1])
    places = there.flatten().nonzero()[:, 0]
    chosen = places[evenly(len(places), most).to(places.device)]
    wanted = torch.full_like(ids.flatten(), UNLEARNED)
    wanted[chosen] = ids.flatten()[chosen]
    return wanted.view_as(ids)


def evenly(count: int, most: int) -> Tensor:
    """At most `most` of `count` numbers, ascending, evenly spaced."""
    if count <= most:
        return torch.arange(count)
    return ((torch.arange(most) + 0.5) * count / most).long()

"""Learning without forgetting: the tuned model goes on answering the old task as the untouched one did.

## Idea

At each step both models answer the same inputs, and `weight x distance(tuned, untouched)` is added, a mean over old
tasks. Between logits the distance is `T^2 x KL(softmax(untouched / T) || softmax(tuned / T))`, for several labels an
example that of yes and no, averaged over labels. A language model's answers are its next-token distributions, at up to
256 places of the batch, evenly spaced over prompts and answers. Where an old task has no head of its own (`auto` and
`texts` of an encoder) and for detectors the distance is that between features, squared and relative. The untouched
model is the same model with the method switched off, so no second one is kept; `full` keeps a copy of its start.
`inputs: new` asks about the new task's own training inputs, which needs no old data at all; `old` about the old task's,
whose labels are not used.

Both answer in evaluation mode, without dropout and with BatchNorm's running statistics, as they will at prediction: so
before the first update the distance and its gradient are zero.

## Fits

Every method that lets more than the head learn, every task.

## Cost

On `share` of a batch, for each old task: two forward passes and one backward pass at each step.

## When to choose it

When old data are gone and the new inputs resemble the old. Where they do not, the untouched answers to them say little;
`inputs: old` without labels is then better.

## Source

Li and Hoiem 2016, Learning without Forgetting, arXiv 1606.09282, eq. 1 to 3; temperature 2 and weight 1 are theirs.
Departures: a fresh sample of inputs stands for the whole batch; the old head does not learn; the tuned model answers
without dropout; and `T^2` keeps the gradient's size at every temperature (Hinton, Vinyals and Dean 2015, arXiv
1503.02531, section 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tunesmith.errors import Fault, RecipeError
from tunesmith.retention.base import Held, Penalty, Retention

if TYPE_CHECKING:
    from torch import Tensor, nn


class LwF(Retention):
    """Distillation towards the untouched model's answers."""

    weight: float = Field(1.0, gt=0, le=1e6, description="how much the distance counts beside the new loss")
    temperature: float = Field(2.0, gt=0, le=100, description="by which logits are divided before they are compared")
    inputs: Literal["new", "old"] = Field("new", description="what both models are asked: new or old training inputs")
    share: float = Field(0.5, gt=0, le=4, description="such inputs a step, as a share of the batch")

    def penalty(self, held: Held) -> Penalty:
        """The distance of the answers to the step's inputs, a part for each old task. RecipeError without any."""
        import torch

        from tunesmith.retention._beside import beside

        if not held.old:
            raise RecipeError([Fault("retention", "lwf keeps the answers of an old task, and forgetting.old_tasks "
                                     "names none: add auto, or an earlier run's folder (tasks of the harness are "
                                     "scored alone).")])  # fmt: skip
        count = max(1, round(self.share * held.batch_size))

        def parts(model: nn.Module, step: int) -> Iterator[Tensor]:
            new = held.new(step, count) if self.inputs == "new" else None
            for task in held.old:
                batch = task.batch(step, count) if new is None else new
                with beside(model, held.seed, step, batch.positions, still=True):
                    with torch.no_grad(), held.switched_off():
                        before = task.outputs(model, batch)
                    apart = task.distance(task.outputs(model, batch), before, self.temperature)
                    if apart.requires_grad:  # a method may let the head learn alone at first
                        yield apart * (self.weight / len(held.old))

        return parts

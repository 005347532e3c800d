"""Old examples beside the new ones in every batch, answered by the old head.

## Idea

Beside the `B` new examples of a step, `k = share x B` old training examples are drawn, and the old task's loss on them,
taken through its own head, is added: `mean(new losses) + k / B x mean(old losses)`. That is the gradient of the mixed
batch, `(B + k) / B` times. The old head itself does not learn. Several old tasks with labels share the `k` examples and
take turns with the odd ones; old tasks without labels are scored, not replayed. Texts are their own labels to a
language model: `texts` and an earlier run are replayed through the loss a token, `auto` is not. Which examples are
drawn follows from the seed and the step alone. Dropout is on, as for new examples. BatchNorm takes its running
statistics, as it will at prediction, and only new examples move them.

## Fits

Every method that lets more than the head learn, every task.

## Cost

`share` times the work of the new examples, and the old training data must still be there. Where several processes
train, each does the whole of it.

## When to choose it

Whenever old data may be used: a few per cent of it hold most of an old ability. It works with every method; where only
the head learns there is nothing to hold.

## Source

Rolnick et al. 2019, Experience Replay for Continual Learning, arXiv 1811.11682; Chaudhry et al. 2019, On Tiny Episodic
Memories in Continual Learning, arXiv 1902.10486 (as many old as new examples). The default share costs a quarter of
that; it is a starting value, not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tunesmith.errors import Fault, RecipeError
from tunesmith.retention.base import Held, Penalty, Retention

if TYPE_CHECKING:
    from torch import Tensor, nn


class Replay(Retention):
    """Old examples beside the new ones."""

    needs_old: ClassVar[bool] = True

    share: float = Field(0.25, gt=0, le=4, description="old examples a step, as a share of the new ones")

    def penalty(self, held: Held) -> Penalty:
        """The old tasks' losses on examples of each step, a part a task. RecipeError where none has labels."""
        from tunesmith.retention._beside import beside

        tasks = [task for task in held.old if task.labelled]
        if not tasks:
            raise RecipeError([Fault("retention", "replay learns from labelled examples of an old task, and there are "
                                     "none: name an earlier run in forgetting.old_tasks (for a language model texts "
                                     "will do), or take lwf, l2_sp or wise_ft, which need no labels.")])  # fmt: skip
        total = max(1, round(self.share * held.batch_size))

        def parts(model: nn.Module, step: int) -> Iterator[Tensor]:
            for task, count in zip(tasks, shared_out(total, len(tasks), step), strict=True):
                if count == 0:
                    continue
                batch = task.batch(step, count)
                with beside(model, held.seed, step, batch.positions, still=False):
                    loss = task.loss(model, batch)
                    part = loss.total * (count / held.batch_size / max(loss.count, 1e-12))
                    if part.requires_grad:  # a method may let the head learn alone at first
                        yield part

        return parts


def shared_out(total: int, tasks: int, step: int) -> list[int]:
    """`total` examples over `tasks`, as evenly as whole numbers go; who gets the odd ones changes from step to step."""
    each, odd = divmod(total, tasks)
    return [each + ((number - step * odd) % tasks < odd) for number in range(tasks)]

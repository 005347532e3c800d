"""The line between the untouched and the tuned model, as a retention that chooses a point on it sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tunesmith.evaluate.evaluate import score
from tunesmith.retention.base import Held
from tunesmith.run.setup import Learning, Ready

RESTATISTICS = 50  # batches that statistics of moving norms are taken from


class Line:
    """What `retention.base.Finishing` asks for. old: of each old task its main score now and what it has lost."""

    def __init__(
        self, ready: Ready, learning: Learning, held: Held, old: Callable[[], Mapping[str, tuple[float, float]]]
    ) -> None:
        self.ready, self.learning, self.held, self.old = ready, learning, held, old
        self.better: str = learning.plan.main_score.better
        self.tuned = {name: tensor.detach().clone() for name, tensor in held.learned.items()}

    def put(self, share: float) -> None:
        """Bring the model to `share` of the way; statistics that move are taken anew between the ends."""
        point = self.ready.recipe.method.between(self.held.start, self.tuned, share)
        with torch.no_grad():
            for name, tensor in self.held.learned.items():
                tensor.copy_(point[name])
        moving = [module for module in self.learning.model.modules() if _is_moving(module, self.held.learned)]
        if moving and 0 < share < 1:
            _restatistics(self.ready, self.learning, moving)

    def new_score(self) -> float:
        """Main score on the validation examples."""
        ready = self.ready
        scoring = {"task": ready.recipe.task, "processor": ready.pretrained.processor, "device": ready.device}
        found = score(self.learning.model, ready.parts["validation"], **scoring)  # type: ignore[arg-type]
        return found[self.learning.plan.main_score.name]

    def old_forgetting(self) -> dict[str, float]:
        """What each old task has lost on the examples that choose."""
        return {name: gone for name, (_, gone) in self.old().items()}


def _is_moving(module: nn.Module, learned: Mapping[str, Tensor]) -> bool:
    mean = getattr(module, "running_mean", None)
    return mean is not None and any(mean is tensor for tensor in learned.values())


def _restatistics(ready: Ready, learning: Learning, moving: list[nn.Module]) -> None:
    """Mean and variance of norms that move, over training examples of one pass at most, as at these weights."""
    momenta = [module.momentum for module in moving]
    batches = getattr(learning.batches, "inner", learning.batches)  # those made ahead end with the run's last step
    learning.model.eval()
    for module in moving:
        module.reset_running_stats()  # type: ignore[operator]
        module.momentum = None  # type: ignore[assignment]
        module.train()
    seen = 0
    with torch.no_grad():
        for step in range(1, min(batches.steps_per_epoch, RESTATISTICS) + 1):
            for batch in batches.micro_batches(step):
                ready.recipe.task.predict(learning.model, ready.device.move(batch))
                seen += len(batch)
    kept = [statistic for module in moving for statistic in (module.running_mean, module.running_var)]
    ready.device.average_over_processes(kept, seen)  # type: ignore[arg-type]
    for module, momentum in zip(moving, momenta, strict=True):
        module.momentum = momentum
    learning.model.eval()

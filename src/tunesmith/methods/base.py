"""Method: what of a pretrained model learns. One file in this folder is one method.

Contract (held by `tests/contracts/test_methods.py` for every file here):

- `prepare` freezes, wraps or adds; it may change the model in place and returns the module to train. Every parameter
  that is to learn requires grad afterwards and no other does. The head (`anatomy.head`) always learns. Random draws
  come from torch's global generator, which the caller has seeded.
- A fresh adapter method leaves the untouched model's answers as they were wherever its paper says so (LoRA, IA3, ...).
- `learned` + `state` restored into a freshly prepared model of the same seed give the same logits, bit for bit.
- `save` writes what a plain transformers, timm or torchvision (and peft) program loads, with the same logits to
  rounding.
- `merge` returns a plain copy for deployment and leaves the trained module as it was; ModelError where no plain model
  can do the same.
- Inside `switched_off` the model answers as the untouched one did, bit for bit, and behind it as the tuned one again.
- `between` gives the tensors on the line from untouched to tuned, both ends exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, ClassVar, Literal

from tunesmith.errors import ModelError
from tunesmith.plugin import Plugin, Registry
from tunesmith.types import PictureForm, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


class Method(Plugin):
    """Base of all methods. Only `prepare` is compulsory."""

    learning_rate: ClassVar[float]
    """The peak rate for models of up to about 100 million parameters; `recipe/defaults.py` scales it by size."""
    learning_rate_source: ClassVar[str]
    """Where that number comes from: a paper, or a measurement in docs/experiments.md."""
    head_learning_rate: ClassVar[float] = 2e-3
    """Peak rate of the head, pooler included: what suits soft prompts or scales is far too high for it."""
    vision_learning_rate: ClassVar[float | None] = None
    """The peak rate for models of pictures where it is another; None: the same."""
    vision_learning_rate_source: ClassVar[str] = ""
    vision_head_learning_rate: ClassVar[float | None] = None
    """Peak rate of the head of such models where it is another."""
    language_learning_rate: ClassVar[float | None] = None
    """The peak rate of a causal language model as wide as SmolLM2-135M that goes on with texts; None: the same."""
    language_learning_rate_source: ClassVar[str] = ""
    only_head: ClassVar[bool] = False
    """Whether nothing but the head learns, so that `train.learning_rate` is the head's."""
    weight_decay: ClassVar[float] = 0.01
    adapter: ClassVar[bool] = True
    """Whether the pretrained weights stay as they were, so that switching the method off gives the old model back."""
    beside_few_bits: ClassVar[bool] = False
    """Whether the pretrained weights may be stored in few bits: it neither changes, delivers nor reads them."""
    has_line: ClassVar[bool] = True
    """Whether a line leads from the untouched to the tuned model, so that `between` serves."""

    def added_tokens(self) -> int:
        """Places this method takes from the model's longest input; the task's `max_length` must leave room for them."""
        return 0

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Make the module to train out of the pretrained one. ModelError when this method cannot serve this model."""
        raise NotImplementedError

    def vision_rate(self, *, drawn: bool) -> tuple[float, str]:
        """The peak rate for models of pictures, and where it comes from. drawn: the head starts at random values."""
        if self.vision_learning_rate is None:
            return self.learning_rate, self.learning_rate_source
        return self.vision_learning_rate, self.vision_learning_rate_source

    def rate_factor(self, name: str) -> float:
        """By what the learning rate of this learned tensor is multiplied. Default: all learn at one rate."""
        return 1.0

    def training_mode(self, model: nn.Module) -> None:
        """Put the model into training mode; norm layers with running statistics whose weights are frozen stay in
        evaluation mode, or their statistics would drift away from what is saved.
        """
        model.train()
        for module in model.modules():
            if getattr(module, "running_mean", None) is not None and not _moves(module):
                module.eval()

    def whole_from(self, steps: int) -> int:
        """The first of `steps` steps, 1-based, in which all that is to learn does; preflight tries that one."""
        return 1

    def after_backward(self, model: nn.Module, step: int, steps: int) -> None:
        """Called with gradients complete, before the optimizer's update of 1-based `step`. Default: nothing."""

    def after_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Called after the update, while gradients still stand (AdaLoRA's budget lives here). Default: nothing."""

    def learned(self, model: nn.Module) -> dict[str, Tensor]:
        """Every tensor that training changes, by name: parameters that require grad, and beside them the moving
        statistics of the norms that learn, which are as much a part of the model as its weights.
        """
        return {n: p for n, p in model.named_parameters() if p.requires_grad} | moving_statistics(model)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """What else must be saved to go on exactly (importance averages, masks). Default: nothing."""
        return {}

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave; called after the learned tensors are in place."""

    @contextmanager
    def switched_off(self, model: nn.Module, start: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, `model` answers as the untouched one, bit for bit: in evaluation mode, with the head as it began.

        start: copies of all that `learned` names, taken before the first step; they are not changed. Behind it, after
        an exception too, weights, statistics and each module's mode are as they were; calls may be nested, and a graph
        recorded before may be differentiated inside or later. ModelError if `start` does not fit the model.
        """
        from tunesmith.models.stand_in import evaluating, stand_in

        with evaluating(model), self.passed_by(model), stand_in(model, start, complete=self.learned(model)):
            yield

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """Inside, what the method has put into the model takes no part. Default: it has put in nothing."""
        return nullcontext()

    def between(self, start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """The learned tensors `share` of the way from `start` (0) to `tuned` (1); the ends are those given themselves.

        start, tuned: copies of what `learned` names, the head left out. Between the ends each is start + share x (tuned
        - start), counters aside; where the change of a weight is a product, its factor that starts at zero takes the
        share and the others are tuned (`takes_share`), so that the change is `share` of the tuned one. ModelError where
        `has_line` is false, ValueError for a share outside 0 to 1.
        """
        import torch

        if not self.has_line:
            raise ModelError(
                f"{self.name} has no line between the untouched and the tuned model: it is on or off. Methods with "
                "one: full, last_blocks, bitfit, norm_tuning, lora, adalora, ia3, adapter. Or take a retention that "
                "works while training and needs no line."
            )
        if not 0 <= share <= 1:
            raise ValueError(f"share {share} is not on the line: 0 is untouched and 1 is tuned")
        if share in (0, 1):
            return dict(tuned if share else start)
        return {
            name: torch.lerp(start[name], last, share)
            if last.is_floating_point() and self.takes_share(name, start[name])
            else last
            for name, last in tuned.items()
        }

    def takes_share(self, name: str, first: Tensor) -> bool:
        """Whether this learned tensor, `first` at the start, moves along the line; else it is tuned all the way."""
        return True

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write the delivered form: by default the whole model, as its library keeps it (safetensors)."""
        from tunesmith.models.whole import write_whole

        write_whole(model, folder, pretrained)

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy without any trace of the method, for deployment."""
        import copy

        return copy.deepcopy(model)


_STAYS = "keeps_its_statistics"
registry: Registry[Method] = Registry("tunesmith.methods", Method)


def reads_pictures(pretrained: Pretrained) -> bool:
    """Whether the model's inputs are pictures, not texts."""
    return isinstance(pretrained.processor, PictureForm)


def is_language_model(pretrained: Pretrained) -> bool:
    """Whether the model goes on with texts: what stands behind its blocks belongs to it, and no head is drawn."""
    return not reads_pictures(pretrained) and not pretrained.anatomy.head


def moving_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Running mean, variance and count of every norm whose statistics move, by name."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None and _moves(module):
            found |= {f"{name}.{own}".lstrip("."): b for own, b in module.named_buffers(recurse=False)}
    return found


Statistics = Literal["auto", "frozen", "moving"]
"""Of BatchNorm that learns: `frozen` normalises with the pretrained mean and deviation, in training as at prediction;
`moving` with each batch's own, and lets the kept ones follow; `auto` is moving where all weights are drawn, else
frozen."""


def settle_statistics(pretrained: Pretrained, statistics: Statistics) -> None:
    """Mark, in place, the norms whose statistics stay although their weights learn."""
    stay = statistics == "frozen"
    if statistics == "auto" and reads_pictures(pretrained):
        from tunesmith.models.vision_source import is_drawn

        stay = not is_drawn(pretrained.source)
    for module in pretrained.model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.__dict__[_STAYS] = stay


def _moves(norm: nn.Module) -> bool:
    """Whether a norm's running statistics follow the data: it learns, and is not told to keep them."""
    return any(p.requires_grad for p in norm.parameters(recurse=False)) and not norm.__dict__.get(_STAYS, False)


def let_all_learn(pretrained: Pretrained) -> nn.Module:
    """Let every weight learn but those that no answer depends on, such as a token for masked patches: nothing would
    move them but weight decay.
    """
    import torch

    from tunesmith.models.whole import is_detector

    model, form = pretrained.model.requires_grad_(True), pretrained.processor
    if not reads_pictures(pretrained) or is_detector(model):
        return model
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    named, like = dict(model.named_parameters()), next(model.parameters())
    picture = torch.linspace(-1, 1, 3 * form.height * form.width).reshape(1, 3, form.height, form.width)
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        answer = model(picture.to(like))
        logits: Tensor = getattr(answer, "logits", answer)
        gradients = torch.autograd.grad(logits.sum(), list(named.values()), allow_unused=True)
    for parameter, gradient in zip(named.values(), gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    for module, training in modes:
        module.training = training
    return model


def freeze_all_but(model: nn.Module, names: tuple[str, ...]) -> None:
    """Let only parameters inside the named modules (or so named themselves) require grad."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(name == n or name.startswith(n + ".") for n in names))

"""Task: what is learned. One file in this folder is one task; its fields are its YAML options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tunesmith.plugin import Plugin, Registry
from tunesmith.types import Batch, Example, Examples, Interval, Loss, MainScore, ModelSource, Prediction, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn

Encoded = Mapping[str, Any]
"""One example as the processor sees it: `input_ids`, perhaps `token_type_ids`, each over its tokens; or `picture`,
uint8 [height, width, 3]."""

Kind = Literal["texts", "images", "boxes", "chats", "preferences"]
"""What data holds: texts with labels, pictures with labels, pictures with boxes, conversations and texts to go on with,
or answers of which one is preferred."""


class Task(Plugin):
    """Base of all tasks."""

    kind: ClassVar[Kind] = "texts"
    """What its data holds; decides how data is read and kept."""
    input_columns: ClassVar[tuple[str, ...]] = ()
    """Inputs that the data must (first) and may (others) bring, by the names used in `Example.inputs`."""

    learns_classes: ClassVar[bool] = True
    """Whether its data bring classes, so that the model gets a head with an output a class."""
    calibrated: ClassVar[bool] = True
    """Whether raw scores are logits of classes, which get a temperature (several labels: thresholds) on validation."""
    delivers_whole: ClassVar[bool] = False
    """Whether what is scored and delivered is a whole model, adapters merged, with the adapter beside it."""
    batch_sizes: ClassVar[tuple[int, int]] = (16, 32)
    """Examples an update by default: for small data (below 5,000 training examples), and for larger."""
    head_learning_rate: ClassVar[float | None] = None
    """Peak rate of what is newly drawn, where the task's head is too large for the method's own."""
    rate_share: ClassVar[float] = 1.0
    """Of a method's rate for language models, the share that suits this task."""
    seen: ClassVar[int] = 3_500
    """Examples that a run sees by default, over all passes."""
    longest: ClassVar[int] = 128
    """Tokens of a text that are kept by default, at most."""
    micro_tokens: ClassVar[int] = 16_384
    """Tokens of a forward pass by default, at most."""
    ruler: ClassVar[tuple[str, ...]] = ()
    """Options that decide how the main score is measured: runs that differ in one cannot be compared by it."""
    sifts: ClassVar[bool] = False
    """Whether `sift` has something to do."""

    @property
    def in_tokens(self) -> bool:
        """Whether its examples are encoded as token ids, rather than as pictures."""
        return self.kind not in ("images", "boxes")

    @property
    def goes_on(self) -> bool:
        """Whether a causal language model learns to go on with texts."""
        return self.kind in ("chats", "preferences")

    @property
    def packs(self) -> bool:
        """Whether batches that train hold several examples in a row; then batches of like lengths are needless."""
        return False

    @property
    def refers(self) -> bool:
        """Whether `refer` has something to do."""
        return False

    @property
    def fixed(self) -> bool:
        """Whether the same example gives the same tensors every time, so that features of it may be kept."""
        return False

    @property
    def partners(self) -> int:
        """Other training examples that go into one when it is augmented (mixup takes one); 0 for none."""
        return 0

    def main_score(self, *, multi_label: bool) -> MainScore:
        """Name and direction of the score that picks the best checkpoint."""
        raise NotImplementedError

    def find_model(self, name: str, *, revision: str | None, weights: str | None, pretrained: bool) -> ModelSource:
        """The model a person named. weights: a file of its own; pretrained: False to draw every weight.
        ModelError where it is not there, or where the task has no use for a setting."""
        raise NotImplementedError

    def load(self, source: ModelSource, labels: Sequence[str], *, multi_label: bool, seed: int) -> Pretrained:
        """The pretrained model with a head for `labels`; new weights are drawn from `seed`. ModelError if it can't."""
        raise NotImplementedError

    def settle(self, examples: int, *, only_head: bool) -> dict[str, tuple[Any, str]]:
        """Options that are `auto` and follow from the number of training examples, and from whether the method leaves
        all but the head as it is: value and origin of each."""
        return {}

    def sift(self, examples: Sequence[Example], processor: Any) -> list[tuple[int, ...] | str]:
        """What becomes of each example once the processor and the longest input are known: the numbers of the windows
        into which it is split (`(0,)`: as it is), or the reason why nothing of it can be learned."""
        return [(0,)] * len(examples)

    def refer(self, pretrained: Pretrained, parts: Mapping[str, Any], *, device: Any) -> None:
        """Fill in targets that are answers of the untouched model, in place; `parts` as in `evaluate.Part`, `device` as
        in `train/device.py`. Called once, before anything learns. Default: there are none."""

    def examine(self, part: Any, processor: Any) -> list[tuple[str, bool, str]]:
        """What else is tried before training, on the encoded training examples: name, whether it holds, what was seen.
        Default: nothing."""
        return []

    def start(self, pretrained: Pretrained, part: Any) -> dict[str, tuple[Any, str]]:
        """Settle what only the data can, and give new weights a better start than chance, in place. `part`: the encoded
        training examples and their targets. Returns the options that were `auto`, with value and origin. Must do the
        same again when those options are given. Default: nothing."""
        return {}

    def rate_factors(self, pretrained: Pretrained) -> Mapping[str, float]:
        """By what the rates in some modules are multiplied, by their names; 0: they do not learn. Default: none are."""
        return {}

    def write_companions(self, pretrained: Pretrained, folder: Path) -> None:
        """Write what a plain program needs beside the weights that the method wrote: configuration, processor."""
        raise NotImplementedError

    def read(self, folder: Path) -> tuple[nn.Module, Any]:
        """A delivered model in evaluation mode and its processor, read as a plain program would."""
        raise NotImplementedError

    def lengths(self, examples: Sequence[Example], pretrained: Pretrained) -> np.ndarray:
        """Size of each example before any cut, int [examples]: tokens of a text, 16 x 16 patches of a picture."""
        raise NotImplementedError

    def longest_input(self, pretrained: Pretrained) -> int | None:
        """The most tokens that the model takes; None where nothing limits them."""
        return None

    def encode(self, examples: Sequence[Example], processor: Any) -> list[Encoded]:
        """Token ids of each example, cut to `max_length`, without padding; or its picture, resized but not cropped."""
        raise NotImplementedError

    def collate(
        self,
        encoded: Sequence[Encoded],
        labels: Any,
        processor: Any,
        *,
        positions: Sequence[int] | None = None,
        draws: Sequence[int] | None = None,
        partners: Sequence[Sequence[tuple[Encoded, Any]]] | None = None,
    ) -> Batch:
        """Pad and stack. `labels`: int array [examples], 0/1 array [examples, classes], or None.

        draws: a seed an example, from which its augmentation follows; None: no augmentation. partners: for each
        example `self.partners` others with their labels.
        """
        raise NotImplementedError

    def foresee(self, model: nn.Module, batches: Sequence[Batch], *, device: Any) -> Sequence[Batch]:
        """The batches into which a step is cut, with what each must know of all of them before anything is
        differentiated; `device` as in `train/device.py`. Default: as they are."""
        return batches

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Sum of the examples' losses and their count (or sum of class weights)."""
        raise NotImplementedError

    def predict(self, model: nn.Module, batch: Batch) -> np.ndarray:
        """Raw scores [examples, classes], float32; no gradient."""
        raise NotImplementedError

    def predictions(self, logits: np.ndarray, labels: Sequence[str], thresholds: Any = None) -> list[Prediction]:
        """Raw scores as answers."""
        raise NotImplementedError

    def targets(self, examples: Examples, labels: Sequence[str]) -> np.ndarray:
        """Class indices [examples] int64, or 0/1 [examples, classes] for multi-label."""
        raise NotImplementedError

    def joined(self, targets: Sequence[np.ndarray]) -> np.ndarray:
        """Targets of several lists of examples as those of one."""
        import numpy as np

        return np.concatenate(targets)

    def score(
        self, logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], thresholds: Any = None
    ) -> dict[str, float]:
        """All scores of the task, the main one among them."""
        raise NotImplementedError

    def intervals(
        self,
        before: np.ndarray | None,
        after: np.ndarray,
        targets: np.ndarray,
        labels: Sequence[str],
        thresholds: np.ndarray | None,
        *,
        seed: int,
    ) -> tuple[Interval | None, Interval, Interval | None]:
        """Intervals of the main score before and after (raw scores of the same examples), and of the difference.
        Without `before` only the second."""
        raise NotImplementedError

    def records(
        self, examples: Examples, logits: np.ndarray, labels: Sequence[str], thresholds: Any, *, multi_label: bool
    ) -> Iterator[dict[str, Any]]:
        """What is kept of each scored example: its inputs, the truth, the answer, file and line; JSON can hold it."""
        raise NotImplementedError

    def rated(self, logits: np.ndarray, targets: np.ndarray) -> Iterable[dict[str, Any]]:
        """What else is kept of each scored example that its targets tell. Default: nothing."""
        return [{}] * len(logits)

    def details(self, logits: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
        """What else a report shows of the fine-tuned model's answers, as JSON can hold it. Default: nothing."""
        return {}


registry: Registry[Task] = Registry("tunesmith.tasks", Task)

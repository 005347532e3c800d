"""Image classification: one label, or any number of labels, for a picture.

The model is any network of timm (`timm/resnet18`), torchvision (`torchvision/resnet18`) or transformers (a hub name or
a folder) that classifies pictures. Size, normalisation and resizing come from the model's own configuration. Pictures
are decoded and resized once; each epoch then sees another crop, flip and colour of them. The scores are those of text
classification: accuracy (micro F1 for several labels), macro F1, F1 a class, Matthews correlation, AUROC and the
expected calibration error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.pictures.augment import PRESETS, Augment, resolved, why
from tunesmith.tasks import _classification as classification
from tunesmith.tasks.base import Encoded, Kind, Task
from tunesmith.types import Batch, Example, Examples, Interval, Loss, MainScore, ModelSource, Prediction, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn


class ImageClassification(Task):
    """Options of the task."""

    kind: ClassVar[Kind] = "images"
    input_columns: ClassVar[tuple[str, ...]] = ("image",)

    size: Annotated[int, Field(ge=16, le=2048)] | Literal["auto"] = Field(
        "auto", description="pixels of a side that the model is given; auto: the model's own"
    )
    test_size: Annotated[int, Field(ge=16, le=2048)] | Literal["auto", "model"] = Field(
        "auto", description="pixels of a side for scores and answers; auto: as in training; model: what its config says"
    )
    augment: Augment = Field(default_factory=Augment, description="how training pictures are varied")
    class_weights: Literal["none", "balanced"] | dict[str, classification.Weight] = Field(
        "none", description="weight of each class in the loss; balanced: inverse of its frequency"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    head_start: Literal["auto", "discriminant", "drawn"] = Field(
        "auto", description="a new head's first values, from its features or random; auto: from features if it can"
    )

    @property
    def fixed(self) -> bool:
        """Where pictures are not augmented, nor smaller in training than for scores."""
        plain = all(getattr(self.augment, name) == value for name, value in PRESETS["none"].items())
        return plain and self.test_size in ("auto", self.size)

    @property
    def partners(self) -> int:
        """One, where mixup or cutmix is on."""
        return int(any(value not in ("auto", 0) for value in (self.augment.mixup, self.augment.cutmix)))

    def main_score(self, *, multi_label: bool) -> MainScore:
        """Accuracy, or micro F1 for several labels."""
        return classification.main_score(multi_label=multi_label)

    def find_model(self, name: str, *, revision: str | None, weights: str | None, pretrained: bool) -> ModelSource:
        """A network of timm, torchvision or transformers, with its weights or without."""
        from tunesmith.models.vision_source import locate_vision

        return locate_vision(name, revision, weights, pretrained)

    def load(self, source: ModelSource, labels: Sequence[str], *, multi_label: bool, seed: int) -> Pretrained:
        """The network with a head for these labels."""
        import torch

        from tunesmith.models.vision import load_image_classifier

        size = None if self.size == "auto" else self.size
        test = None if self.test_size == "auto" else self.test_size
        found = load_image_classifier(source, labels, multi_label=multi_label, seed=seed, size=size, test_size=test)
        found.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions
        return found

    def write_companions(self, pretrained: Pretrained, folder: Path) -> None:
        """Configuration and the form of pictures, as the network's library keeps them."""
        from tunesmith.models.vision_files import write_companions

        write_companions(pretrained, folder)

    def read(self, folder: Path) -> tuple[nn.Module, Any]:
        """Through the network's library (and peft) alone."""
        import torch

        from tunesmith.models.vision_files import read_image_classifier

        model, form = read_image_classifier(folder)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # sums in the order of training's
        return model, form

    def settle(self, examples: int, *, only_head: bool) -> dict[str, tuple[Any, str]]:
        """How training pictures are varied. A head alone learns from fixed features, computed once."""
        given = self.augment
        if only_head and given.preset == "auto":
            return {"augment": (resolved(given.model_copy(update={"preset": "none"}), examples),
                                "a head alone learns from features that are computed once")}  # fmt: skip
        return {"augment": (resolved(given, examples), why(given, examples))}

    def lengths(self, examples: Sequence[Example], pretrained: Pretrained) -> np.ndarray:
        """Patches of what the model is given, the same for all."""
        import numpy as np

        from tunesmith.pictures.form import in_training, patches

        form = in_training(pretrained.processor)
        return np.full(len(examples), patches(form.height, form.width))

    def encode(self, examples: Sequence[Example], processor: Any) -> list[Encoded]:
        """Each picture decoded and resized, uint8 [height, width, 3]. DataError if one can no longer be read."""
        from tunesmith.errors import DataError
        from tunesmith.pictures.decode import PictureFault, read_picture
        from tunesmith.pictures.form import stored

        found: list[Encoded] = []
        for example in examples:
            try:
                found.append({"picture": stored(read_picture(example.inputs["image"]), processor)})
            except PictureFault as fault:
                raise DataError(f"{example.file}:{example.line}: {example.inputs['image']}: {fault}") from fault
        return found

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
        """The centre of each picture, or with `draws` its augmented form; normalised [examples, 3, height, width]."""
        import numpy as np
        import torch

        from tunesmith.pictures.augment import augmented
        from tunesmith.pictures.form import centred, normalised

        target = None if labels is None else torch.as_tensor(labels)
        places = tuple(range(len(encoded))) if positions is None else tuple(positions)
        if "features" in encoded[0]:  # of the frozen network below the head
            return Batch({"features": torch.from_numpy(np.stack([e["features"] for e in encoded]))}, target, places)
        if draws is None:
            pixels = [centred(e["picture"], processor) for e in encoded]
        else:
            pixels = [augmented(e["picture"], processor, self.augment, seed=d)
                      for e, d in zip(encoded, draws, strict=True)]  # fmt: skip
        inputs: dict[str, Tensor] = {}
        if draws is not None and partners is not None:
            pixels, inputs = self._mixed(pixels, draws, partners, processor)
        batch = normalised(torch.stack(pixels), processor).contiguous(memory_format=torch.channels_last)
        return Batch({"pixels": batch, **inputs}, target, places)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy (binary for several labels); of a mixed picture the shares of both its labels."""
        from tunesmith.models.gradients import sound_gradients
        from tunesmith.models.vision_described import description

        assert batch.labels is not None
        with sound_gradients(model):
            logits = answer(model, batch)
        weights = classification.weights_of(self.class_weights, description(model).labels, logits)
        smooth, own, other = self.label_smoothing, batch.labels, batch.inputs.get("partner")
        if other is None:
            return classification.loss(logits, own, weights=weights, label_smoothing=smooth)
        share = batch.inputs["share"]
        if own.dim() == 2:
            mixed = own * share[:, None] + other * (1 - share[:, None])
            return classification.loss(logits, mixed, weights=weights, label_smoothing=smooth)
        one = classification.loss(logits, own, weights=weights, label_smoothing=smooth, shares=share)
        two = classification.loss(logits, other, weights=weights, label_smoothing=smooth, shares=1 - share)
        return Loss(one.total + two.total, one.count + two.count)

    def predict(self, model: nn.Module, batch: Batch) -> np.ndarray:
        """Logits [examples, classes], float32."""
        import torch

        with torch.inference_mode():
            logits: np.ndarray = answer(model, batch).cpu().numpy()
        return logits

    def predictions(self, logits: np.ndarray, labels: Sequence[str], thresholds: Any = None) -> list[Prediction]:
        """The best class of each row, or every class above its threshold."""
        return classification.predictions(logits, labels, thresholds)

    def targets(self, examples: Examples, labels: Sequence[str]) -> np.ndarray:
        """Class indices [examples], or 0/1 [examples, classes] where labels are tuples."""
        return classification.targets(examples, labels)

    def score(
        self, logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], thresholds: Any = None
    ) -> dict[str, float]:
        """Every score of the task."""
        return classification.score(logits, targets, labels, thresholds)

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
        """Bootstrap over examples, of accuracy or micro F1."""
        return classification.intervals(before, after, targets, labels, thresholds, seed=seed)

    def records(
        self, examples: Examples, logits: np.ndarray, labels: Sequence[str], thresholds: Any, *, multi_label: bool
    ) -> Iterator[dict[str, Any]]:
        """Label, answer and probabilities beside the inputs."""
        return classification.records(examples, logits, labels, thresholds, multi_label=multi_label)

    def _mixed(
        self, pixels: list[Tensor], draws: Sequence[int], partners: Sequence[Sequence[tuple[Encoded, Any]]], form: Any
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Each picture with its partner mixed in as its draw says; `partner` holds its label, `share` the own part."""
        import torch

        from tunesmith.pictures.augment import augmented, mix, mixing

        made, shares = [], []
        for own, draw, ((encoded, _),) in zip(pixels, draws, partners, strict=True):
            how = mixing(self.augment, draw)
            if how is None:
                made.append(own)
                shares.append(1.0)
                continue
            other = augmented(encoded["picture"], form, self.augment, seed=draw + 1)
            mixed, share = mix(own, other, how)
            made.append(mixed)
            shares.append(share)
        labels = torch.stack([torch.as_tensor(label) for ((_, label),) in partners])
        return made, {"partner": labels, "share": torch.tensor(shares)}


def answer(model: nn.Module, batch: Batch) -> Tensor:
    """Logits [examples, classes] in float32; some libraries give them bare, some in a record."""
    given = model(next(iter(batch.inputs.values())))
    logits: Tensor = getattr(given, "logits", given)
    return logits.float()

"""Object detection: a box and a class for each thing in a picture.

The model is a detector of torchvision (`torchvision/fasterrcnn_resnet50_fpn_v2`) or transformers (DETR, RT-DETR,
D-FINE, YOLOS, ... by hub name or folder); or a network of timm that classifies pictures, over which `detector` is
built: then an ImageNet classifier alone is enough to start from. Classes that a pretrained detector knows by name keep
what it knows of them. Data are COCO JSON, Pascal VOC XML, YOLO text files or a Hugging Face data set; all give the same
boxes. The main score is COCO's average precision (AP, the mean over overlaps of 0.50 to 0.95); AP50, AP75, that of
small, medium and large things and of each class stand beside it, all through pycocotools.

Pictures keep the ratio of their sides: the longest becomes `size`. Boxes go with every change that augmentation makes.
What is delivered is the whole detector, adapters merged; the adapter stands beside it in `adapter/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.pictures.box_augment import BoxAugment
from tunesmith.plugin import Options
from tunesmith.tasks import _boxes
from tunesmith.tasks.base import Encoded, Kind, Task
from tunesmith.types import (
    Batch,
    Example,
    Examples,
    Interval,
    Loss,
    MainScore,
    ModelSource,
    PictureForm,
    Prediction,
    Pretrained,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn

Auto = Literal["auto"]
_BUILD = ("detector", "pyramid_channels", "representation", "regions", "proposals", "anchor_scale")


Factor = Annotated[float, Field(ge=0, le=1_000)]


class PartRates(Options):
    """By what the rate of each part is multiplied. 0: it stays as it is."""

    backbone: Factor = Field(1.0, description="the network that reads the picture")
    neck: Factor = Field(1.0, description="what mixes its maps: a pyramid, or a transformer's encoder and decoder")
    head: Factor = Field(1.0, description="what proposes and predicts boxes and classes")


class ObjectDetection(Task):
    """Options of the task."""

    kind: ClassVar[Kind] = "boxes"
    input_columns: ClassVar[tuple[str, ...]] = ("image", "boxes")
    calibrated: ClassVar[bool] = False
    delivers_whole: ClassVar[bool] = True
    batch_sizes: ClassVar[tuple[int, int]] = (4, 8)
    head_learning_rate: ClassVar[float | None] = 5e-4
    seen: ClassVar[int] = 2_400

    detector: Literal["faster_rcnn", "retinanet", "fcos"] = Field(
        "faster_rcnn", description="what is built over a classifier's network"
    )
    size: Annotated[int, Field(ge=64, le=4096)] | Auto = Field(
        "auto", description="pixels of a picture's longest side; auto: the model's own, 320 over a classifier"
    )
    canvas: tuple[int, int] | Auto = Field(
        "auto", description="height and width that training pictures are padded to; auto: what holds each of them"
    )
    augment: BoxAugment = Field(default_factory=BoxAugment, description="how training pictures are varied")
    pyramid_channels: int = Field(128, ge=64, le=1024, multiple_of=32, description="channels of the feature pyramid")
    representation: int = Field(1024, ge=32, le=4096, description="width of the layers that read a region")
    regions: int = Field(128, ge=8, le=4096, description="regions of a picture that a step learns from")
    proposals: int = Field(500, ge=8, le=10_000, description="regions of a picture that training looks at")
    anchor_scale: int = Field(4, ge=1, le=32, description="side of the smallest anchor, in strides of its level")
    parts: PartRates = Field(default_factory=PartRates, description="rates of the detector's parts; 0: it stays")

    @property
    def partners(self) -> int:
        """Three, where a mosaic may be laid."""
        return 3 if self.augment.mosaic > 0 else 0

    def main_score(self, *, multi_label: bool) -> MainScore:
        """COCO's average precision."""
        return MainScore("ap", "higher")

    def find_model(self, name: str, *, revision: str | None, weights: str | None, pretrained: bool) -> ModelSource:
        """A detector, or a classifier for one to be built over."""
        return _boxes.find_model(name, revision=revision, weights=weights, pretrained=pretrained)

    def load(self, source: ModelSource, labels: Sequence[str], *, multi_label: bool, seed: int) -> Pretrained:
        """The detector with one class a label."""
        from tunesmith.models.detectors.load import load_detector
        from tunesmith.models.detectors.spec import DetectorOptions

        fields = type(self).model_fields
        told = source.library == "timm" or any(getattr(self, name) != fields[name].default for name in _BUILD)
        options = DetectorOptions(**{name: getattr(self, name) for name in _BUILD}) if told else None
        size = None if self.size == "auto" else self.size
        return load_detector(source, labels, seed=seed, size=size, options=options)

    def rate_factors(self, pretrained: Pretrained) -> Mapping[str, float]:
        """As `parts` says."""
        from tunesmith.models.detectors.anatomy import find_parts

        found = find_parts(pretrained.model)
        return {
            name: getattr(self.parts, part) for part in type(self.parts).model_fields for name in getattr(found, part)
        }

    def write_companions(self, pretrained: Pretrained, folder: Path) -> None:
        """Nothing: a detector is delivered whole."""

    def read(self, folder: Path) -> tuple[nn.Module, Any]:
        """Through torchvision or transformers alone."""
        from tunesmith.models.detectors.files import read_detector

        model, form, _ = read_detector(folder)
        return model, form

    def start(self, pretrained: Pretrained, part: Any) -> dict[str, tuple[Any, str]]:
        """The canvas: what holds every training picture, in steps of 32 pixels."""
        form: PictureForm = pretrained.processor
        if self.canvas != "auto" or not len(part.encoded):
            return {}
        if form.squash:
            return {"canvas": ((form.height, form.width), "the one size that this detector takes")}
        high, wide = (-(-side // 32) * 32 for side in part.encoded.highest_and_widest)
        return {"canvas": ((high, wide), "the largest height and width of the training pictures, in steps of 32")}

    def lengths(self, examples: Sequence[Example], pretrained: Pretrained) -> np.ndarray:
        """Patches of a picture of the longest sides."""
        import numpy as np

        from tunesmith.pictures.form import patches

        form: PictureForm = pretrained.processor
        return np.full(len(examples), patches(form.height, form.width))

    def encode(self, examples: Sequence[Example], processor: Any) -> list[Encoded]:
        """Each picture decoded and resized, uint8 [height, width, 3], and its own width and height."""
        return _boxes.encode(examples, processor)

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
        """Pictures padded to the canvas, `pixels` [examples, 3, height, width]; `sizes` and, to predict, `scale`."""
        canvas = None if self.canvas == "auto" else self.canvas
        return _boxes.collate(
            encoded,
            labels,
            processor,
            canvas=canvas,
            augment=self.augment,
            positions=tuple(range(len(encoded))) if positions is None else tuple(positions),
            draws=draws,
            partners=partners,
        )

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The detector's own loss, summed."""
        from tunesmith.models.detectors.detect import detector_losses

        assert batch.labels is not None
        return detector_losses(model, batch.inputs, batch.labels)

    def predict(self, model: nn.Module, batch: Batch) -> np.ndarray:
        """Detections [examples, 100, 6] = x1, y1, x2, y2, score, class in pixels of the picture itself; score -1: none.

        Where the batch has labels, as in training, boxes are in pixels of the resized picture.
        """
        from tunesmith.models.detectors.detect import detect

        found = detect(model, batch.inputs)
        scale = batch.inputs.get("scale")
        if scale is not None:
            across = scale.cpu().numpy()[:, None, [0, 1, 0, 1]]
            found[..., :4] = found[..., :4] / across
        return found

    def predictions(self, logits: np.ndarray, labels: Sequence[str], thresholds: Any = None) -> list[Prediction]:
        """The classes of the boxes that are at least half sure, the surest first."""
        from tunesmith.pictures.draw import LEAST_SCORE

        kept = [row[row[:, 4] >= LEAST_SCORE] for row in logits]
        return [Prediction(row, tuple(labels[int(box[5])] for box in boxes))
                for row, boxes in zip(logits, kept, strict=True)]  # fmt: skip

    def targets(self, examples: Examples, labels: Sequence[str]) -> np.ndarray:
        """Boxes [examples, most, 6] = x1, y1, x2, y2, class, crowd in pixels of the picture itself; class -1: none."""
        return _boxes.targets(examples, labels)

    def joined(self, targets: Sequence[np.ndarray]) -> np.ndarray:
        """Padded to the most boxes that any picture has."""
        return _boxes.joined(targets)

    def score(
        self, logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], thresholds: Any = None
    ) -> dict[str, float]:
        """COCO's scores."""
        from tunesmith.metrics.boxes import average_precision

        return average_precision(logits, targets, labels)

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
        """Bootstrap over pictures, of AP."""
        from tunesmith.metrics.boxes import Matches

        late = Matches(after, targets, labels)
        if before is None:
            return None, late.interval(seed=seed), None
        early = Matches(before, targets, labels)
        return early.interval(seed=seed), late.interval(seed=seed), late.interval(early, seed=seed)

    def records(
        self, examples: Examples, logits: np.ndarray, labels: Sequence[str], thresholds: Any, *, multi_label: bool
    ) -> Iterator[dict[str, Any]]:
        """The true boxes and the found ones, with their classes and scores."""
        return _boxes.records(examples, logits, labels)

    def details(self, logits: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
        """Curves of precision and recall, and kinds of errors."""
        return _boxes.details(logits, targets, labels)

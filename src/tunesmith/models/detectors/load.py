"""Any detector with the person's labels, ready for a method. READ THIS FIRST here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.detectors import from_torchvision
from tunesmith.models.detectors.anatomy import find_anatomy
from tunesmith.models.detectors.detr import load_transformers
from tunesmith.models.detectors.spec import NAMED, OVER_BACKBONE, DetectorOptions, Spec
from tunesmith.models.kept_labels import detector_labels
from tunesmith.models.vision import load_image_classifier
from tunesmith.models.vision_source import DRAWN, is_drawn
from tunesmith.types import ModelSource, PictureForm, Pretrained


def load_detector(
    source: ModelSource,
    labels: Sequence[str],
    *,
    seed: int,
    size: int | None = None,
    pretrained: bool = True,
    backbone: ModelSource | None = None,
    options: DetectorOptions | None = None,
) -> Pretrained:
    """The detector that `source` names, with one class a label; new weights are drawn from `seed`.

    source: transformers (a folder), torchvision (`architecture`: one of its detectors, or faster_rcnn, retinanet, fcos
        over `backbone`; or a folder that `write_detector` wrote). A classifier is taken as the backbone itself.
    size: longest side of the pictures (both sides, where the model squashes them); None: the model's own.
    pretrained: false draws every weight, the backbone's too.
    backbone: a timm classifier (as `vision_source.locate_vision` finds it), whose network goes below the detector.
    options: how a detector over a backbone is built; ModelError with a detector that brings its own form.
    Returns `Pretrained` with a `PictureForm`: pictures are resized so that their longest side is `height` (squash: to
    height x width), then normalised by it, then padded with zeros.
    Raises ModelError for what cannot be found, read or used.
    """
    if not labels:
        raise ModelError("A detector needs at least one class.")
    pretrained = pretrained and source.weights != DRAWN
    detectors = (*NAMED, *OVER_BACKBONE)
    if backbone is None and (
        source.library == "timm" or (source.library == "torchvision" and source.architecture not in detectors)
    ):
        backbone = source
    if backbone is not None or (source.architecture in OVER_BACKBONE and not source.path):
        return _over(source, labels, backbone, seed=seed, size=size, pretrained=pretrained, options=options)
    if options is not None:
        names = ", ".join(DetectorOptions.__dataclass_fields__)
        raise ModelError(
            f"{source.name} comes with its own pyramid, anchors and heads: {names} are for detectors over a backbone "
            "(torchvision/faster_rcnn, retinanet, fcos). Leave them out."
        )
    if source.library == "transformers":
        model, form, drawn = load_transformers(source, labels, seed=seed, size=size, pretrained=pretrained)
        return Pretrained(model, form, find_anatomy(model, drawn), source, "transformers", _known(source, labels))
    if source.path:
        model, drawn = from_torchvision.load_delivered(source, labels, seed=seed, size=size, pretrained=pretrained)
    else:
        model, drawn = from_torchvision.load_named(source, labels, seed=seed, size=size, pretrained=pretrained)
    return _ready(model, drawn, source)


def _ready(model: nn.Module, drawn: set[str], source: ModelSource) -> Pretrained:
    vet.check_finite(model)
    spec: Spec = model.spec  # type: ignore[assignment]
    anatomy, known = find_anatomy(model, drawn), _known(source, spec.labels)
    return Pretrained(model, form_of(spec), anatomy, source, "torchvision", known)


def _known(source: ModelSource, labels: Sequence[str]) -> tuple[str, ...]:
    """Those of the labels that the detector's own class layer has, whose rows stay."""
    own = set(detector_labels(source))
    return tuple(label for label in labels if label in own)


def form_of(spec: Spec) -> PictureForm:
    """Torchvision's detectors normalise by themselves, so values stay at 0 to 1."""
    return PictureForm(spec.size, spec.size, 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), spec.squash)


def _over(
    source: ModelSource,
    labels: Sequence[str],
    backbone: ModelSource | None,
    *,
    seed: int,
    size: int | None,
    pretrained: bool,
    options: DetectorOptions | None,
) -> Pretrained:
    if backbone is None:
        raise ModelError(
            f"torchvision/{source.architecture} is built over a network that reads pictures: name it as the backbone, "
            f"model: {{name: torchvision/{source.architecture}, backbone: timm/resnet18}}, or a weight file of a timm "
            "classifier."
        )
    if source is not backbone and source.architecture not in OVER_BACKBONE:
        raise ModelError(
            f"{source.name} has its own backbone, so {backbone.name} would go unused. Name one of "
            f"{', '.join(f'torchvision/{kind}' for kind in OVER_BACKBONE)} as the model, or leave the backbone out."
        )
    if backbone.library != "timm":
        raise ModelError(
            f"The backbone {backbone.name} is a network of {backbone.library}; a backbone is one of timm's, which has "
            "most networks of the others too (timm/resnet50, timm/mobilenetv3_large_100)."
        )
    options = options or DetectorOptions()
    if source.architecture in OVER_BACKBONE:
        options = replace(options, detector=source.architecture)
    classifier = load_image_classifier(backbone, labels, multi_label=False, seed=seed)
    kept = pretrained and not is_drawn(backbone)
    model, drawn = from_torchvision.load_over_backbone(
        backbone.architecture.partition(".")[0],
        classifier.model.state_dict() if kept else None,
        labels,
        seed=seed,
        size=size,
        form=(classifier.processor.mean, classifier.processor.std),
        options=options,
    )
    told = replace(backbone, name=f"{options.detector} over {backbone.name}", library="torchvision")
    return _ready(model, drawn, told if kept else replace(told, weights=DRAWN))

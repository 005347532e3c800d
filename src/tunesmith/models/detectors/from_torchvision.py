"""torchvision detectors ready to be tuned: by torchvision's own names, over a timm classifier, or as delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from tunesmith.errors import ModelError, did_you_mean
from tunesmith.models.detectors import spec as specs
from tunesmith.models.detectors.build import build, freeze_norms, set_eps_of_coco
from tunesmith.models.detectors.classes import fit_classes
from tunesmith.models.detectors.pyramid import choose_levels, fill_body, gives_channels_last, make_body
from tunesmith.models.detectors.spec import DetectorOptions, Spec
from tunesmith.models.vet import read_config, reading
from tunesmith.models.vision_weights import read_file
from tunesmith.types import ModelSource

WEIGHTS, CONFIG = "model.safetensors", "config.json"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TRAINED_WITHOUT_EPS = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")


def load_named(
    source: ModelSource, labels: Sequence[str], *, seed: int, size: int | None, pretrained: bool
) -> tuple[nn.Module, set[str]]:
    """One of torchvision's own detectors. Its weights: `source.weights`, else torchvision's download for COCO.

    Returns the model and the names of the modules with newly drawn weights.
    """
    name = source.architecture
    fixed = specs.FIXED_SIZES.get(name)
    if fixed and size not in (None, fixed):
        raise ModelError(f"{name} takes pictures of {fixed} x {fixed} pixels only, and size is {size}: leave size out.")
    new = Spec(
        builder=name,
        size=fixed or size or specs.USUAL_SIZES.get(name, 800),
        categories=specs.categories_of(name, tuple(labels)),
        mean=IMAGENET[0],
        std=IMAGENET[1],
        frozen_norm=pretrained and not name.startswith("ssd") and not name.endswith("_v2"),
    )
    if not pretrained:
        return _drawn(new, seed), {""}
    before, weights = _coco(source)
    model = build(replace(new, categories=before))
    _fill(model, weights, source)
    if name in TRAINED_WITHOUT_EPS:
        set_eps_of_coco(model)
    return _fitted(model, new, before, seed)


def load_over_backbone(
    architecture: str,
    weights: Mapping[str, Tensor] | None,
    labels: Sequence[str],
    *,
    seed: int,
    size: int | None,
    form: tuple[tuple[float, ...], tuple[float, ...]],
    options: DetectorOptions,
) -> tuple[nn.Module, set[str]]:
    """Faster R-CNN, RetinaNet or FCOS over the timm network `architecture`.

    weights: the classifier's tensors by timm's names; None to train the backbone from scratch too. form: mean and
    standard deviation of values 0 to 1 that the backbone wants.
    """
    if options.detector not in specs.OVER_BACKBONE:
        raise ModelError(
            f'detector "{options.detector}" cannot be built over a backbone.'
            f"{did_you_mean(options.detector, specs.OVER_BACKBONE)} Write one of {', '.join(specs.OVER_BACKBONE)}."
        )
    with torch.random.fork_rng(devices=[]):  # only looked at: what is trained is drawn from the seed below
        levels = choose_levels(architecture, first_stride=4 if options.detector == "faster_rcnn" else 8)
        body = make_body(architecture, levels)
        nhwc = gives_channels_last(body, architecture)
    new = Spec(
        builder=options.detector,
        size=size or 320,
        categories=specs.categories_of(options.detector, tuple(labels)),
        mean=tuple(float(v) for v in form[0]),
        std=tuple(float(v) for v in form[1]),
        arguments=_arguments(options),
        backbone=architecture,
        levels=levels,
        pyramid=options.pyramid_channels,
        nhwc=nhwc,
    )
    model = _drawn(new, seed)
    if weights is None:
        return model, {""}
    fill_body(model.backbone.body, weights, architecture)  # type: ignore[union-attr,arg-type]
    return model, {
        "backbone.fpn",
        *(name for name, _ in model.named_children() if name not in ("backbone", "transform")),
    }


def _arguments(options: DetectorOptions) -> dict[str, Any]:
    if options.detector == "fcos":
        return {"score_thresh": 0.05}
    smallest = {"smallest_anchor": (4 if options.detector == "faster_rcnn" else 8) * options.anchor_scale}
    if options.detector == "retinanet":
        return {**smallest, "detections_per_img": 100}
    return {
        **smallest,
        "representation": options.representation,
        "box_batch_size_per_image": options.regions,
        "rpn_pre_nms_top_n_train": max(1000, options.proposals),
        "rpn_post_nms_top_n_train": options.proposals,
    }


def load_delivered(
    source: ModelSource, labels: Sequence[str], *, seed: int, size: int | None, pretrained: bool
) -> tuple[nn.Module, set[str]]:
    """A folder that `write_detector` wrote, fitted to other labels; its own classes keep their rows."""
    model, spec = read_folder(Path(source.path))
    if size and size != spec.size and spec.squash:
        raise ModelError(f"{spec.builder} takes pictures of {spec.size} x {spec.size} only: leave size out.")
    new = replace(spec, size=size or spec.size, categories=specs.categories_of(spec.builder, tuple(labels)))
    if not pretrained:
        return _drawn(replace(new, frozen_norm=False), seed), {""}
    if not spec.squash:
        model.transform.min_size, model.transform.max_size = (new.size,), new.size  # type: ignore[union-attr,assignment]
    return _fitted(model, new, spec.categories, seed)


def read_folder(folder: Path) -> tuple[nn.Module, Spec]:
    """Build from config.json and fill from model.safetensors. ModelError where either is broken or names no detector of
    these, or they do not fit each other."""
    config = read_config(folder)
    kinds = (*specs.NAMED, *specs.OVER_BACKBONE)
    if config.get("builder") not in kinds:
        raise ModelError(
            f'{folder / CONFIG} says builder: "{str(config.get("builder"))[:100]}". It may be {", ".join(kinds)}.'
        )
    with reading(folder, "torchvision"):
        spec = specs.from_config(config)
        if not isinstance(spec.size, int) or spec.size < 1:
            raise ModelError(f"{folder / CONFIG} says size: {str(spec.size)[:100]}, which is no number of pixels.")
        weights = read_file(folder / WEIGHTS)
        model = build(spec)
        model.load_state_dict(weights)
    return model, spec


def _drawn(spec: Spec, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(spec)


def _fitted(model: nn.Module, new: Spec, before: Sequence[str], seed: int) -> tuple[nn.Module, set[str]]:
    changed = fit_classes(model, new, before, seed) if tuple(before) != new.categories else set()
    if new.frozen_norm:
        freeze_norms(model)
    model.spec = new  # type: ignore[assignment]
    return model, changed


def _coco(source: ModelSource) -> tuple[tuple[str, ...], Mapping[str, Tensor]]:
    """What the rows of the pretrained class layer mean, and the weights."""
    entry = get_model_weights(source.architecture).DEFAULT  # type: ignore[attr-defined]
    categories = tuple(entry.meta["categories"])
    if source.weights:
        return categories, read_file(Path(source.weights))
    try:
        found: Mapping[str, Tensor] = torch.hub.load_state_dict_from_url(
            entry.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:  # what a missing network raises differs between systems
        raise ModelError(
            f"torchvision's weights for {source.architecture} are not in its cache ({torch.hub.get_dir()}/checkpoints) "
            f"and cannot be fetched from {entry.url}. Fetch that file where there is a network and name it as "
            "model.weights, or build on a backbone that you have (model.backbone), or set model.pretrained to false."
        ) from error
    return categories, found


def _fill(model: nn.Module, weights: Mapping[str, Tensor], source: ModelSource) -> None:
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ModelError(
            f"{source.weights or source.name} does not fit torchvision's {source.architecture} with the 91 rows of "
            f"COCO: {str(error).splitlines()[-1].strip()[:200]}"
        ) from error

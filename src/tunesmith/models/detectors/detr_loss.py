"""Losses of transformers' detectors as sums over boxes, and their detections.

The formulas are transformers' own: each picture is handed to the model's own loss by itself, and weighted by its
number of boxes (at least 1), by which that loss divides; count = the sum of these. Box terms and focal terms are then
those of the whole batch, as transformers has them. Departures: the weighted cross-entropy of DETR and YOLOS is a mean
over each picture's queries instead of all pictures'; a picture without boxes counts as 1.

RT-DETR and D-FINE also learn from noisy copies of the true boxes (denoising). How many copies a picture gets, and
their noise, would hang on its neighbours: so backbone and encoder run on the batch, and the decoder on one picture
after another, its noise drawn by counter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.loss import loss_for_object_detection
from transformers.modeling_outputs import BaseModelOutput

from tunesmith.models.detectors.detr import READS_MASK, image_processor, true_sizes
from tunesmith.models.detectors.pictures import Target, real_pixels
from tunesmith.models.stand_in import attribute
from tunesmith.train.randomness import draws_for
from tunesmith.types import Loss

LAYERS_FIRST = ("outputs_class", "outputs_coord")


def detr_loss(model: Any, inputs: Mapping[str, Tensor], targets: list[Target]) -> Loss:
    """Sum of the pictures' losses, weighted by their boxes, and the sum of weights."""
    labels = _labels(model, inputs, targets)
    weights = [max(1, len(own["class_labels"])) for own in labels]
    if getattr(model.config, "num_denoising", 0) and model.training:
        losses = _with_denoising(model, inputs["pixels"], labels)
    else:
        with _one_by_one(model) as losses:
            model(**_given(model, inputs), labels=labels)
    total = torch.stack([loss * weight for loss, weight in zip(losses, weights, strict=True)]).sum()
    return Loss(total, float(sum(weights)))


def _labels(model: Any, inputs: Mapping[str, Tensor], targets: list[Target]) -> list[Target]:
    """Boxes as centre, width and height in shares of the picture, as transformers wants them."""
    found = []
    for own, (height, width) in zip(
        targets, true_sizes(model, inputs["pixels"], inputs["sizes"]).tolist(), strict=True
    ):
        corners = own["boxes"] / own["boxes"].new_tensor([width, height, width, height])
        centre, extent = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        found.append({"class_labels": own["labels"], "boxes": torch.cat([centre, extent], dim=1)})
    return found


def _given(model: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    pixels = inputs["pixels"]
    if model.config.model_type not in READS_MASK:
        return {"pixel_values": pixels}
    sizes = [(int(height), int(width)) for height, width in inputs["sizes"].tolist()]
    mask = real_pixels(sizes, int(pixels.shape[2]), int(pixels.shape[3]), pixels.device)
    whole = torch.ones(len(pixels), *pixels.shape[2:], device=pixels.device) if mask is None else mask
    return {"pixel_values": pixels, "pixel_mask": whole.long()}


@contextmanager
def _one_by_one(model: Any) -> Iterator[list[Tensor]]:
    """While the block runs, the model's loss function is called once a picture; the list fills with the losses."""
    before: Callable[..., Any] = model.loss_function
    losses: list[Tensor] = []

    def each(
        logits: Tensor, labels: list[Target], device: Any, boxes: Tensor, config: Any, *more: Any, **named: Any
    ) -> Any:
        rest = dict(zip(LAYERS_FIRST, more, strict=False)) | named
        for place, own in enumerate(labels):
            cut = slice(place, place + 1)
            told = {name: _cut(model, name, value, cut) for name, value in rest.items()}
            with _by_itself():
                losses.append(before(logits[cut], [own], device, boxes[cut], config, **told)[0])
        return torch.stack(losses).sum(), {}, None

    model.loss_function = each
    try:
        yield losses
    finally:
        del model._loss_function


@contextmanager
def _by_itself() -> Iterator[None]:
    """Transformers divides by the mean number of boxes over all processes, asked of them for each picture; here other
    processes have other pictures, and not as many."""
    library: Any = loss_for_object_detection
    with attribute([library], "is_accelerate_available", lambda: False):
        yield


def _cut(model: Any, name: str, value: Any, cut: slice) -> Any:
    """One picture of a tensor; DETR and its nearest kin stack the layers before the pictures."""
    if not isinstance(value, Tensor):
        return value
    layers_first = name in LAYERS_FIRST and model.config.model_type in (*READS_MASK, "yolos")
    return value[:, cut] if layers_first else value[cut]


def _with_denoising(model: Any, pixels: Tensor, labels: list[Target]) -> list[Tensor]:
    inner, mask = model.model, torch.ones(len(pixels), *pixels.shape[2:], device=pixels.device)
    maps = [
        project(own) for project, (own, _) in zip(inner.encoder_input_proj, inner.backbone(pixels, mask), strict=False)
    ]
    encoded = inner.encoder(maps).last_hidden_state
    losses = []
    for place, own in enumerate(labels):
        levels: Any = [level[place : place + 1] for level in encoded]
        one = BaseModelOutput(last_hidden_state=levels)
        noise = int(torch.randint(1 << 62, (1,), generator=draws_for(place, "denoising")))
        with torch.random.fork_rng(devices=[pixels.device] if pixels.is_cuda else []):
            torch.manual_seed(noise)
            answer = model(
                pixel_values=None, inputs_embeds=pixels[place : place + 1], encoder_outputs=one, labels=[own]
            )
        losses.append(answer.loss)
    return losses


def detr_detect(model: Any, inputs: Mapping[str, Tensor]) -> list[Target]:
    """Transformers' own post-processing of the model's answers, boxes in pixels of the given pictures."""
    answers = model(**_given(model, inputs))
    sizes = true_sizes(model, inputs["pixels"], inputs["sizes"])
    processor = image_processor(model.config.model_type)
    found: list[Target] = processor.post_process_object_detection(answers, threshold=0.0, target_sizes=sizes)
    return found


def plain_module(model: nn.Module) -> nn.Module:
    """The detector inside a peft wrapper, its layers with their adapters in place."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    assert isinstance(inner, nn.Module)
    return inner

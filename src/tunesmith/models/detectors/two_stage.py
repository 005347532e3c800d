"""The loss of Faster R-CNN as a sum over pictures, and its detections.

Ren et al. 2015, Faster R-CNN, arXiv 1506.01497, as torchvision has it: objectness and box offsets of sampled anchors,
classes and box offsets of sampled regions. Two departures, so that a batch cut anywhere gives the same gradient: each
picture's four losses are means over its own samples (torchvision: over the samples of the batch, the same wherever
every picture fills its quota), and samples are drawn by counter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from tunesmith.models.detectors.pictures import Target
from tunesmith.models.detectors.sampling import sampled

BETA = 1 / 9  # where torchvision's smooth L1 turns from square to straight


def two_stage_loss(model: nn.Module, images: ImageList, targets: list[Target]) -> Tensor:
    """The sum of the pictures' losses."""
    features: dict[str, Tensor] = model.backbone(images.tensors)  # type: ignore[operator]
    rpn: RegionProposalNetwork = model.rpn  # type: ignore[assignment]
    maps = list(features.values())
    scores, offsets = rpn.head(maps)
    anchors = rpn.anchor_generator(images, maps)
    per_level = [int(level[0].numel()) for level in scores]
    scores, offsets = concat_box_prediction_layers(scores, offsets)
    with torch.no_grad():
        boxes = rpn.box_coder.decode(offsets.detach(), anchors).view(len(targets), -1, 4)
        proposals, _ = rpn.filter_proposals(boxes, scores, images.image_sizes, per_level)
    first = _anchor_loss(rpn, anchors, scores.flatten(), offsets, targets)
    return first + _region_loss(model.roi_heads, features, proposals, images, targets)  # type: ignore[arg-type]


def _anchor_loss(
    rpn: RegionProposalNetwork, anchors: list[Tensor], scores: Tensor, offsets: Tensor, targets: list[Target]
) -> Tensor:
    sampler = rpn.fg_bg_sampler
    labels, matched = rpn.assign_targets_to_anchors(anchors, targets)
    chosen = sampled(
        labels, size=sampler.batch_size_per_image, positive_share=sampler.positive_fraction, what="anchors"
    )
    share, start = _shares(chosen), 0
    rows = []
    for own, all_own in zip(chosen, labels, strict=True):
        rows.append(own + start)
        start += len(all_own)
    drawn, kinds = torch.cat(rows), torch.cat([own[i] for own, i in zip(labels, chosen, strict=True)])
    loss = (F.binary_cross_entropy_with_logits(scores[drawn], kinds, reduction="none") * share).sum()
    boxes = torch.cat([own[i] for own, i in zip(matched, chosen, strict=True)])
    origin = torch.cat([own[i] for own, i in zip(anchors, chosen, strict=True)])
    real = kinds >= 1
    wanted = rpn.box_coder.encode_single(boxes[real], origin[real])
    apart = F.smooth_l1_loss(offsets[drawn[real]], wanted, beta=BETA, reduction="none")
    return loss + (apart * share[real, None]).sum()


def _region_loss(
    heads: RoIHeads, features: dict[str, Tensor], proposals: list[Tensor], images: ImageList, targets: list[Target]
) -> Tensor:
    sampler, boxes, kinds = heads.fg_bg_sampler, [t["boxes"] for t in targets], [t["labels"] for t in targets]
    with torch.no_grad():
        proposals = heads.add_gt_proposals(proposals, boxes)
        matches, labels = heads.assign_targets_to_proposals(proposals, boxes, kinds)
        chosen = sampled(
            labels, size=sampler.batch_size_per_image, positive_share=sampler.positive_fraction, what="regions"
        )
        proposals = [own[i] for own, i in zip(proposals, chosen, strict=True)]
        wanted = torch.cat([own[i] for own, i in zip(labels, chosen, strict=True)])
        real = wanted > 0
        matched = torch.cat(
            [b[m[i]] if len(b) else b.new_zeros(len(i), 4) for b, m, i in zip(boxes, matches, chosen, strict=True)]
        )
        goal = heads.box_coder.encode_single(matched[real], torch.cat(proposals)[real])
    share = _shares(chosen)
    read = heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes))
    logits, offsets = heads.box_predictor(read)
    loss = (F.cross_entropy(logits, wanted, reduction="none") * share).sum()
    own_offsets = offsets.reshape(len(wanted), -1, 4)[real, wanted[real]]
    apart = F.smooth_l1_loss(own_offsets, goal, beta=BETA, reduction="none")
    return loss + (apart * share[real, None]).sum()


def _shares(chosen: list[Tensor]) -> Tensor:
    """For every sample 1 / (number of samples of its picture)."""
    return torch.cat([torch.full((len(own),), 1 / max(1, len(own)), device=own.device) for own in chosen])


def two_stage_detect(model: nn.Module, images: ImageList) -> list[Target]:
    """Torchvision's own answers, boxes in pixels of the given pictures; the model is in evaluation mode."""
    features = model.backbone(images.tensors)  # type: ignore[operator]
    proposals, _ = model.rpn(images, features)  # type: ignore[operator]
    found: list[Target] = model.roi_heads(features, proposals, images.image_sizes)[0]  # type: ignore[operator]
    return found

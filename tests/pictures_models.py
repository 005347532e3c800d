"""Tiny pretrained picture classifiers of all three libraries: random weights, real architectures, 32 pixels.

The weights of a tensor follow from its name alone, so a net built twice, in another process or with another number of
labels, is the same net; only its classifier follows from `seed`. BatchNorm brings statistics as training would have
left them, so that a net whose statistics drift or get lost answers otherwise.
"""

from __future__ import annotations

import functools
import json
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.types import ModelSource, PictureForm, Pretrained

TINY_VISION = (
    "timm_resnet",
    "timm_efficientnet",
    "timm_convnext",
    "timm_vit",
    "torchvision_resnet",
    "torchvision_mobilenet",
    "hf_resnet",
    "hf_vit",
    "hf_dinov2",
    "hf_swin",
    "hf_convnext",
)
SIDE = 32
"""Pixels of every tiny net's pictures."""

BASE_LABELS = ("cat", "dog", "tree", "house", "car")
"""What the nets of `tiny_vision_source` can tell apart."""

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "timm_resnet": ("resnet18", {"layers": [1, 1, 2, 1], "channels": [8, 16, 24, 32], "stem_width": 8}),
    "timm_efficientnet": ("test_efficientnet", {}),
    "timm_convnext": ("convnext_atto", {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}),
    "timm_vit": (
        "vit_tiny_patch16_224",
        {"img_size": SIDE, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4},
    ),
    "torchvision_resnet": ("resnet18", {}),
    "torchvision_mobilenet": ("mobilenet_v3_small", {"width_mult": 0.25}),
    "hf_resnet": (
        "resnet",
        {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "layer_type": "basic"},
    ),
    "hf_vit": (
        "vit",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "patch_size": 8},
    ),
    "hf_dinov2": (
        "dinov2",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2, "patch_size": 8},
    ),
    "hf_swin": ("swin", {"embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4, "patch_size": 2}),
    "hf_convnext": ("convnext", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}),
}
GAIN = {"timm_efficientnet": 3.1, "torchvision_mobilenet": 3.0, "timm_convnext": 1.5}
"""Variance a layer multiplies by, where 2 lets a deep net of narrow layers answer all pictures alike."""

LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}


def tiny_vision(kind: str, labels: int = 3, seed: int = 0) -> Pretrained:
    """A fresh tiny classifier in evaluation mode, its head drawn from `seed`; its source stands on disk."""
    from tunesmith.models.vision_anatomy import find_vision_anatomy
    from tunesmith.models.vision_described import Described, describe

    source = _source(kind)
    form = PictureForm(SIDE, SIDE, 0.875, "bilinear", MEAN, STD)
    names = tuple(f"class {i}" for i in range(labels))
    model = tiny_net(kind, names, seed)
    arguments = ARCHITECTURES[kind][1] if source.library == "torchvision" else {}
    describe(model, Described(names, seed=seed, arguments=arguments))
    anatomy = find_vision_anatomy(model, library=source.library, newly_drawn=_classifier(model), form=form)
    return Pretrained(model, form, anatomy, source, source.library)


def tiny_vision_source(kind: str, folder: Path) -> ModelSource:
    """The same net with `BASE_LABELS` written to `folder`, as its own library keeps models on disk."""
    model = tiny_net(kind, BASE_LABELS)
    library, (architecture, arguments) = LIBRARIES[kind.split("_")[0]], ARCHITECTURES[kind]
    folder.mkdir(parents=True, exist_ok=True)
    if library == "transformers":
        model.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(_processor(architecture)))
        architecture = ""
    elif library == "timm":
        from timm.models import save_for_hf

        form = {"input_size": (3, SIDE, SIDE), "mean": MEAN, "std": STD, "crop_pct": 0.875, "interpolation": "bilinear"}
        named = {"label_names": list(BASE_LABELS)}
        save_for_hf(model, str(folder), named, safe_serialization=True, data_config=form)
    else:
        from safetensors.torch import save_model

        save_model(model, str(folder / "model.safetensors"))
        form = {"height": SIDE, "width": SIDE, "crop_share": 0.875, "interpolation": "bilinear", "mean": MEAN}
        config: dict[str, Any] = {"library": library, "architecture": architecture, "arguments": arguments}
        config |= {"num_classes": len(BASE_LABELS), "labels": BASE_LABELS, "form": {**form, "std": STD}}
        (folder / "config.json").write_text(json.dumps(config))
    return ModelSource(str(folder), str(folder.resolve()), library=library, architecture=architecture)


def tiny_net(kind: str, labels: Sequence[str], seed: int = 0) -> Any:
    """The bare network, in evaluation mode, with one output a label."""
    library, (architecture, arguments) = kind.split("_")[0], ARCHITECTURES[kind]
    model: Any
    if library == "timm":
        import timm

        model = timm.create_model(architecture, num_classes=len(labels), **arguments)
    elif library == "torchvision":
        import torchvision

        model = torchvision.models.get_model(architecture, num_classes=len(labels), **arguments)
    else:
        from transformers import AutoConfig, AutoModelForImageClassification

        names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        config = AutoConfig.for_model(architecture, image_size=SIDE, **names, **arguments)
        model = AutoModelForImageClassification.from_config(config)
    _fill(model, seed, GAIN.get(kind, 2.0))
    return model.eval()


@functools.cache
def _place() -> tempfile.TemporaryDirectory[str]:
    """Where the sources of `tiny_vision` stand until the tests end."""
    return tempfile.TemporaryDirectory(prefix="tiny_vision_")


@functools.cache
def _source(kind: str) -> ModelSource:
    return tiny_vision_source(kind, Path(_place().name) / kind)


def _classifier(model: Any) -> tuple[str, ...]:
    """Parameters of the last linear layer."""
    from torch import nn

    name, layer = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    return tuple(f"{name}.{own}" for own, _ in layer.named_parameters())


def _fill(model: Any, seed: int, gain: float) -> None:
    import torch

    drawn = _classifier(model)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            fresh = torch.Generator().manual_seed(zlib.crc32(name.encode()) + (seed if name in drawn else 0))
            values = torch.randn(tensor.shape, generator=fresh)
            last = name.rsplit(".", 1)[-1]
            if last == "running_var":
                values = 1 + values.abs() / 2
            elif "token" in last or "pos" in last or "bias" in last or last == "running_mean":
                values *= 0.15
            elif tensor.ndim < 2:  # the scale of a norm, or of a block
                values = 1 + values * 0.15
            else:
                values *= (gain / (tensor.numel() / tensor.shape[0])) ** 0.5
            tensor.copy_(values)


def _processor(architecture: str) -> dict[str, Any]:
    told: dict[str, Any] = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "resample": 2}
    told |= {"do_normalize": True, "image_mean": MEAN, "image_std": STD}
    if architecture == "dinov2":
        crop = {"height": SIDE, "width": SIDE}
        return told | {
            "image_processor_type": "BitImageProcessor",
            "size": {"shortest_edge": 36},
            "do_center_crop": True,
            "crop_size": crop,
        }
    if architecture in ("convnext", "resnet"):
        return told | {
            "image_processor_type": "ConvNextImageProcessor",
            "size": {"shortest_edge": SIDE},
            "crop_pct": 0.875,
        }
    return told | {"image_processor_type": "ViTImageProcessor", "size": {"height": SIDE, "width": SIDE}}

"""Writing a whole model as its own library keeps it: a text model, a classifier of pictures, a detector."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tunesmith.types import PictureForm, Pretrained


def write_whole(model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
    """Weights (safetensors) and configuration, to be loaded by a plain program of `pretrained.library`."""
    if not isinstance(pretrained.processor, PictureForm):
        model.save_pretrained(folder)  # type: ignore[operator]
    elif is_detector(pretrained.model):
        from tunesmith.models.detectors.files import write_detector

        write_detector(model, folder, pretrained)
    else:
        from tunesmith.models.vision_files import write_model

        write_model(model, folder, pretrained)


def is_detector(model: nn.Module) -> bool:
    """Whether a model finds boxes: torchvision's detectors carry their `spec`, transformers' say it in their name."""
    return hasattr(model, "spec") or type(model).__name__.endswith("ForObjectDetection")

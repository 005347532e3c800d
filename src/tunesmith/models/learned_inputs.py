"""What is learned beside a network and is no weight of it, as files: the tensors by name, and what they are in words.

No library has a form for learned tokens or prefixes of a picture model, so they are written as what they are:
NAME.safetensors (they and the head) and NAME.json (how many, where), beside the base model's config.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models.vision_weights import read_file
from tunesmith.models.weights_file import read_object


def write_learned(folder: Path, name: str, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Write both files into `folder`, which is made where it is not there."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    whole = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    save_file(whole, folder / f"{name}.safetensors", metadata={"format": "pt"})
    (folder / f"{name}.json").write_text(json.dumps(dict(told), indent=2), encoding="utf-8")


def read_learned(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `write_learned` wrote: the words and the tensors."""
    file = folder / f"{name}.safetensors"
    if not file.is_file():
        raise ModelError(f"{folder} lacks {file.name}: what was learned is gone. Put it back, or fit again.")
    return read_object(folder / f"{name}.json"), read_file(file)


def fill(model: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Copy the tensors into a model that has their places, in place. ModelError where it lacks one."""
    odd = model.load_state_dict(dict(tensors), strict=False).unexpected_keys
    if odd:
        raise ModelError(f"What was learned in {folder} does not fit its base model: {', '.join(odd[:3])} not in it.")
    model.eval()

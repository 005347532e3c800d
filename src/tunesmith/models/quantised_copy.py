"""A language model written anew with its linear layers in 4 or 8 bits, kept in the cache: `model.bits`.

The copy is a plain transformers folder that says of itself how it is stored, so whatever reads the base of an adapter
(peft, a card's lines, this program) reads the very weights that the adapter was learned beside. It is made layer by
layer: at no time does the whole model stand in memory as it was. Embeddings, norms and the output layer keep their
precision.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.cache import cache_folder, kept
from tunesmith.models.quantised import need_library
from tunesmith.models.quiet import quiet
from tunesmith.models.weights_file import WEIGHTS
from tunesmith.types import ModelSource

FORM = 1
"""Of what is written; a cached folder of another form is made anew."""
NOTE = "quantised.json"
BESIDE = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.jinja",
          "generation_config.json", "README.md", "LICENSE*")  # fmt: skip
"""What is taken over as it is."""


def quantised(source: ModelSource, bits: int) -> ModelSource:
    """The same model with its linear layers in so many bits, as a folder in the cache; made at the first call.

    ModelError for weights that are quantised already, are not whole or not finite, and where bitsandbytes is missing;
    DiskError where the cache has no room.
    """
    need_library(f"model.bits: {bits} stores the model's linear layers in {bits} bits")
    folder = Path(source.path)
    tensors = vet.vet_folder(folder, "causal lm")
    config = vet.read_config(folder)
    if config.get("quantization_config"):
        raise ModelError(
            f"model.bits: {bits} was asked for, but the weights in {folder} are quantised already. Leave it out."
        )
    beside = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in _beside(folder)}
    made_of = json.dumps([FORM, bits, sorted(source.sha256.items()), sorted(beside.items())])
    target = cache_folder() / f"{bits}-bit" / hashlib.sha256(made_of.encode()).hexdigest()
    needed = sum(_bytes(entry.shape, bits, config.get("vocab_size")) for entry in tensors.values())
    with kept(target, f"The model in {bits} bits", is_whole=_is_whole, needed=needed) as fresh:
        if fresh is not None:
            _make(folder, fresh, bits)
    return replace(source, path=str(target))


def _bytes(shape: Sequence[int], bits: int, vocabulary: Any) -> int:
    """About what a tensor takes in the copy: few bits and scales, or float32 (vectors, and rows of the vocabulary)."""
    few = len(shape) == 2 and shape[0] != vocabulary
    return int(math.prod(shape) * (bits / 8 + 0.1 if few else 4)) + 1_024


def _beside(folder: Path) -> list[Path]:
    return sorted({file for pattern in BESIDE for file in folder.glob(pattern) if file.is_file()})


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds a quantised model, every byte of it."""
    try:
        vet.vet_folder(folder, "causal lm")
    except ModelError:
        return False
    return (folder / NOTE).is_file()


def _make(folder: Path, fresh: Path, bits: int) -> None:
    from transformers import BitsAndBytesConfig

    from tunesmith.models.causal import check_whole, read_network

    _check_finite(folder)
    few: Any = (
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
         "bnb_4bit_compute_dtype": torch.float32}
        if bits == 4
        else {"load_in_8bit": True}
    )  # fmt: skip
    model, info = read_network(folder, BitsAndBytesConfig(**few))
    check_whole(model, info, folder)
    with quiet():
        model.save_pretrained(fresh)
    for file in _beside(folder):
        shutil.copyfile(file, fresh / file.name)
    (fresh / NOTE).write_text(json.dumps({"form": FORM, "bits": bits}) + "\n", encoding="utf-8")


def _check_finite(folder: Path) -> None:
    """ModelError where a weight is NaN or infinite: in few bits it would be a number like any other."""
    from safetensors import safe_open

    whole = folder / WEIGHTS
    for file in [whole] if whole.is_file() else sorted(folder.glob("*.safetensors")):
        with vet.reading(folder, "safetensors"), safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                tensor = opened.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise ModelError(
                        f"The weights in {file} are not finite ({name}): the model was saved after its training "
                        "failed, or the file is damaged. Use another copy or an earlier one."
                    )

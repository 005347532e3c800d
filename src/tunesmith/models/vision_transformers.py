"""Reading an image classifier of transformers from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.claims import check_size
from tunesmith.models.quiet import quiet
from tunesmith.models.vision_form import PREPROCESSOR, processor_form
from tunesmith.models.vision_heads import names_of, output_layer, outputs
from tunesmith.models.vision_read import Read, drawing
from tunesmith.models.vision_source import is_drawn
from tunesmith.types import ModelSource, PictureForm


def read_transformers(source: ModelSource, labels: Sequence[str], seed: int) -> Read:
    """The network with as many outputs as its config says; what is missing of the classifier is drawn from `seed`."""
    folder = Path(source.path)
    tensors = vet.vet_folder(folder, "image classification", weights=not is_drawn(source))
    with vet.reading(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        config.architectures = config.architectures or []  # transformers looks into it where a type has two classes
        before = [str(label) for _, label in sorted((config.id2label or {}).items())]
        if is_drawn(source) or not before:
            config.num_labels = len(labels)
        with quiet(), drawing(seed):
            if is_drawn(source):
                model: Any = AutoModelForImageClassification.from_config(config, dtype=torch.float32)
                info: dict[str, Any] = {"missing_keys": (), "mismatched_keys": ()}
            else:
                check_size(folder, AutoModelForImageClassification, config, tensors)
                model, info = AutoModelForImageClassification.from_pretrained(
                    folder,
                    config=config,
                    dtype=torch.float32,
                    use_safetensors=True,
                    trust_remote_code=False,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                )
        form = _form(folder, config, drawn=is_drawn(source))
    missing = {str(name) for name in info["missing_keys"] if not str(name).endswith("num_batches_tracked")}
    vet.check_loaded(model, {**info, "missing_keys": missing}, folder)
    vet.check_finite(model)
    name, layer = output_layer(model)
    trunk = f"{model.base_model_prefix}."
    alike = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and outputs(m) == outputs(layer)]
    names = tuple(n for n in alike if not n.startswith(trunk) and n != name)  # distilled networks have two
    drawn = missing | {str(entry[0]) for entry in info["mismatched_keys"]}
    fresh = any(parameter.startswith(f"{name}.") for parameter in drawn) or is_drawn(source)
    known = names_of(before) if not fresh and len(before) == outputs(layer) else ()
    return Read(model, form, (name, *names), known, frozenset(drawn), is_drawn(source))


def begin_outputs(model: Any, names: Sequence[str]) -> None:
    """Draw new output layers by the model's own law for new weights."""
    for name in names:
        layer = model.get_submodule(name)
        with torch.no_grad():
            model._init_weights(layer)
        model.num_labels = outputs(layer)


def set_labels(config: Any, labels: Sequence[str], *, multi_label: bool) -> None:
    """The person's labels in the config, so that what is written brings them."""
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = "multi_label_classification" if multi_label else "single_label_classification"


def _form(folder: Path, config: Any, *, drawn: bool) -> PictureForm:
    """From preprocessor_config.json; a network without weights may go by its library's default."""
    native = getattr(config, "image_size", 224)
    native = int(native[0] if isinstance(native, list | tuple) else native)
    if (folder / PREPROCESSOR).is_file():
        return processor_form(AutoImageProcessor.from_pretrained(folder, trust_remote_code=False), native=native)
    if drawn:
        return PictureForm(native, native)
    raise ModelError(
        f"{folder} has no {PREPROCESSOR}, so size and normalisation of its pictures are unknown. Fetch that file too: "
        "it stands beside the weights where the model came from."
    )

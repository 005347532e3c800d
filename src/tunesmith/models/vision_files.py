"""A picture classifier as files: written in its library's own form, and read back as a plain program reads it.

    transformers    AutoModelForImageClassification.from_pretrained(FOLDER), AutoImageProcessor.from_pretrained(FOLDER)
    timm            timm.create_model("local-dir:FOLDER", pretrained=True)
    torchvision     torchvision.models.get_model(architecture, num_classes=...) with the values of config.json, then
                    model.load_state_dict(safetensors.torch.load_file("FOLDER/model.safetensors"))

Beside an adapter stand the same config files, and base_model.json: which network it belongs to, with its files' sha256.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models import vet, visual_prefixes, visual_prompts
from tunesmith.models.adapter_files import ADAPTER, vet_adapter
from tunesmith.models.claims import check_size
from tunesmith.models.quiet import quiet
from tunesmith.models.vision import load_image_classifier
from tunesmith.models.vision_described import description
from tunesmith.models.vision_form import (
    PREPROCESSOR,
    form_from_json,
    form_to_json,
    processor_config,
    processor_form,
    timm_config,
    timm_form,
)
from tunesmith.models.vision_source import DRAWN, check_architecture, file_sha256
from tunesmith.models.vision_weights import read_file
from tunesmith.models.weights_file import WEIGHTS, read_object
from tunesmith.types import ModelSource, PictureForm, Pretrained

BASE = "base_model.json"
ADAPTERS = (ADAPTER, visual_prompts.FILE, visual_prefixes.FILE)


def write_model(model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
    """Write the whole plain network (no adapter around it) with its labels and the form of its pictures."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    own: Any = model
    if pretrained.library == "transformers":
        with quiet():
            own.save_pretrained(folder, state_dict=_whole(model))
    else:
        save_file(_whole(model), folder / WEIGHTS, metadata={"format": "pt"})
    _write_config(model, folder, pretrained)


def write_companions(pretrained: Pretrained, folder: Path) -> None:
    """Write what an adapter's folder needs beside the adapter: the network's config, and base_model.json."""
    if (folder / "config.json").is_file():
        return  # a whole network stands there, perhaps of another width than the pretrained one
    folder.mkdir(parents=True, exist_ok=True)
    _write_config(pretrained.model, folder, pretrained)
    if not any((folder / name).is_file() for name in ADAPTERS):
        return
    told, source = description(pretrained.model), asdict(pretrained.source)
    base = {name: getattr(told, name) for name in ("labels", "multi_label", "seed", "size", "test_size")}
    (folder / BASE).write_text(json.dumps({"source": source, **base}, indent=2), encoding="utf-8")


def read_image_classifier(folder: Path) -> tuple[nn.Module, PictureForm]:
    """A delivered network in evaluation mode and the form of its pictures, through its library (and peft) alone.

    ModelError for files that are broken or unsafe, and where an adapter's base is gone or is not the one that it was
    trained on.
    """
    if (folder / ADAPTER).is_file():
        return _read_adapter(folder)
    if any((folder / name).is_file() for name in ADAPTERS):
        with vet.reading(folder, "torch"):
            return _read_inputs(folder)
    config = vet.read_config(folder)
    if config.get("library") == "torchvision":
        with vet.reading(folder, "torchvision"):
            return _read_torchvision(folder, config)
    if "architecture" in config and "model_type" not in config:
        with vet.reading(folder, "timm"):
            return _read_timm(folder, str(config["architecture"]))
    return _read_transformers(folder)


def _read_torchvision(folder: Path, config: dict[str, Any]) -> tuple[nn.Module, PictureForm]:
    from tunesmith.models.vision_torchvision import build

    model = build(str(config["architecture"]), int(config["num_classes"]), config.get("arguments") or {})
    model.load_state_dict(read_file(folder / WEIGHTS))
    return model.eval(), form_from_json(config["form"], folder / "config.json")


def _read_timm(folder: Path, architecture: str) -> tuple[nn.Module, PictureForm]:
    import timm

    check_architecture("timm", architecture.partition(".")[0])
    network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=False)
    network.load_state_dict(read_file(folder / WEIGHTS))
    return network.eval(), timm_form(network)


def _read_transformers(folder: Path) -> tuple[nn.Module, PictureForm]:
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    tensors = vet.vet_folder(folder, "image classification")
    with vet.reading(folder), quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        check_size(folder, AutoModelForImageClassification, config, tensors)
        found, info = AutoModelForImageClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        form = processor_form(AutoImageProcessor.from_pretrained(folder, trust_remote_code=False))
    vet.check_filled(info, folder)
    return found.eval(), form


def read_base(folder: Path) -> Pretrained:
    """The untouched network that an adapter's folder belongs to, with the labels it was trained for. ModelError where
    it is gone or another, and where the adapter may not be opened."""
    path = folder / BASE
    if not path.is_file():
        raise ModelError(f"{folder} holds an adapter but no {BASE}, which tells what network it belongs to.")
    if (folder / ADAPTER).is_file():
        vet_adapter(folder)
    told = read_object(path)
    with vet.reading(folder, "torch"):
        source = ModelSource(**told["source"])
        if source.library != "transformers":
            check_architecture(source.library, source.architecture)
        _check_unchanged(source, path)
        size = tuple(told["size"]) if told.get("size") else None
        found = load_image_classifier(
            source,
            told["labels"],
            multi_label=told["multi_label"],
            seed=told["seed"],
            size=size,
            test_size=told.get("test_size"),
        )
    if found.source.sha256.get(DRAWN) != source.sha256.get(DRAWN):
        raise ModelError(
            f"The adapter in {folder} was trained on weights drawn from seed {told['seed']}, and this version of torch "
            "draws others. Read it with the versions that the run's manifest.json names."
        )
    return found


def _read_adapter(folder: Path) -> tuple[nn.Module, PictureForm]:
    from peft import PeftModel

    base = read_base(folder)
    with vet.reading(folder, "peft"):
        model: nn.Module = PeftModel.from_pretrained(base.model, str(folder))
    return model.eval(), base.processor


def _read_inputs(folder: Path) -> tuple[nn.Module, PictureForm]:
    """A vision transformer with the learned tokens that `visual_prompt` wrote, or `prefix_tuning`'s keys and values."""
    base = read_base(folder)
    if (folder / visual_prompts.FILE).is_file():
        visual_prompts.read_into(base.model, base.anatomy.blocks, folder)
    else:
        visual_prefixes.read_into(base.model, base.library, folder)
    return base.model.eval(), base.processor


def _check_unchanged(source: ModelSource, told: Path) -> None:
    """ModelError unless every file that the adapter was trained on is still there, byte for byte."""
    folder = Path(source.path)
    for name, expected in source.sha256.items():
        if name == DRAWN:
            continue
        file = Path(source.weights) if Path(source.weights).name == name else folder / name
        if not file.is_file():
            raise ModelError(
                f"The adapter beside {told} belongs to {source.name}, but {file} is no longer there. Put it back, or "
                f"change the path in {told}."
            )
        if file_sha256(file) != expected:
            raise ModelError(
                f"The adapter beside {told} was trained on another {file}: its sha256 has changed. On these weights it "
                "would answer otherwise; bring back the file that the run's manifest.json tells of."
            )


def _whole(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor by name, on the CPU, contiguous (training may keep them channels last)."""
    return {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()}


def _write_config(model: Any, folder: Path, pretrained: Pretrained) -> None:
    form: PictureForm = pretrained.processor
    told = description(model)
    if pretrained.library == "timm":
        from timm.models._hub import save_config_for_hf  # timm's own form, which it offers only with the weights

        labels = {"label_names": list(told.labels)}
        save_config_for_hf(model, str(folder / "config.json"), labels, data_config=timm_config(form))
    elif pretrained.library == "torchvision":
        config = {
            "library": "torchvision",
            "architecture": pretrained.source.architecture,
            "arguments": dict(told.arguments),
            "num_classes": len(told.labels),
            "labels": list(told.labels),
            "multi_label": told.multi_label,
            "form": form_to_json(form),
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
    else:
        model.config.save_pretrained(folder)
        processor = json.dumps(processor_config(form), indent=2)
        (folder / PREPROCESSOR).write_text(processor, encoding="utf-8")

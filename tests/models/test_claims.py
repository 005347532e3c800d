"""What a stranger's config.json says is held against the weights before anything is built."""

from __future__ import annotations

import json
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft  # noqa: F401  its import takes seconds: here, and not inside the first test that needs it
import pytest
from transformers import GenerationMixin  # noqa: F401  the same

from tunesmith.errors import ModelError
from tunesmith.models.causal import find_causal, load_causal
from tunesmith.models.claims import check_counts
from tunesmith.models.from_transformers import load_classifier, read_classifier
from tunesmith.models.source import locate
from tunesmith.models.vet import read_config, vet_folder

Copy = Callable[..., Path]


@pytest.fixture
def copied(tiny_folders: Callable[[str], Path], tmp_path: Path) -> Copy:
    """A copy of a tiny model with these settings in its config.json."""

    def copy(kind: str = "bert", **settings: Any) -> Path:
        folder = tmp_path / kind
        shutil.copytree(tiny_folders(kind), folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | settings))
        return folder

    return copy


def load(folder: Path) -> None:
    if "_lm" in folder.name:
        load_causal(find_causal(str(folder)))
    else:
        load_classifier(locate(str(folder)), ("a", "b"), multi_label=False, seed=0)


def refused(folder: Path) -> str:
    """Why it is not loaded, said at once."""
    began = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert time.perf_counter() - began < 20
    return str(caught.value)


class Marker:
    """As a pickle it makes a file where it is opened."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("MARKER"),))


def test_a_config_that_names_a_pickle_as_its_weights_is_refused(
    copied: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = copied(transformers_weights="adapter_model.bin")
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Marker()))
    assert "transformers_weights" in refused(folder)
    with pytest.raises(ModelError, match="transformers_weights"):
        read_classifier(folder)
    assert not Path("MARKER").exists()


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"model_type": "llava", "text_config": {"transformers_weights": "x.bin"}}, "transformers_weights"),
        ({"model_type": "rt_detr", "backbone": "somebody/net"}, "looked up on the hub"),
        ({"model_type": "detr", "backbone": "somebody/net", "use_timm_backbone": False}, "looked up on the hub"),
        ({"model_type": "detr", "backbone": "hf-hub:somebody/net"}, "looked up on the hub"),
        ({"model_type": "timm_wrapper", "architecture": "hf-hub:somebody/net"}, "looked up on the hub"),
        ({"model_type": "detr", "backbone_config": {"model_type": "timm_backbone", "backbone": "local-dir:/x"}},
         "looked up on the hub"),
    ],
)  # fmt: skip
def test_no_setting_leads_out_of_the_folder(told: dict[str, Any], word: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=word):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "told",
    [
        {"model_type": "detr", "backbone": "resnet50", "use_timm_backbone": True},
        {"model_type": "detr", "backbone": None, "backbone_config": {"model_type": "timm_backbone", "backbone": "r"}},
        {
            "model_type": "detr",
            "backbone": "resnet50",
            "use_timm_backbone": True,
            "num_experts": 16384,
            "backbone_kwargs": {"in_chans": 3, "out_indices": [1, 2, 3, 4]},
        },
        {"library": "torchvision", "builder": "fcos", "backbone": "resnet18"},
        {"architecture": "resnet18"},
    ],
)
def test_settings_as_libraries_write_them_are_read(told: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(told))
    assert read_config(tmp_path) == told
    check_counts(tmp_path / "config.json", told, 300)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {"num_hidden_layers": 10**9}),
        ("gpt2_lm", {"n_layer": 10**9}),
        ("distilbert", {"n_layers": 10**400}),
        ("albert", {"inner_group_num": 10**9}),
        ("bert", {"text_config": {"num_experts": 10**9}}),
        ("bert", {"depths": [1, 10**9]}),
        ("bert", {"num_labels": 10**12}),
    ],
)
def test_more_layers_than_tensors_are_refused_before_they_are_built(
    kind: str, settings: dict[str, Any], copied: Copy
) -> None:
    assert "at most" in refused(copied(kind, **settings))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {"vocab_size": 4 * 10**9}),
        ("llama_lm", {"vocab_size": 4 * 10**9}),
        ("llama_lm", {"intermediate_size": 10**10}),
        ("bert", {"hidden_size": 10**6}),
        ("bert", {"max_position_embeddings": 10**12}),
    ],
)
def test_a_network_far_larger_than_its_weights_is_refused_before_it_takes_memory(
    kind: str, settings: dict[str, Any], copied: Copy
) -> None:
    assert "numbers" in refused(copied(kind, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_size": "eight"},
        {"num_attention_heads": 0},
        {"id2label": [1, 2]},
        {"id2label": {"a": "b"}},
        {"hidden_act": "nope"},
        {"hidden_size": 10**30},
    ],
)
@pytest.mark.parametrize("kind", ["bert", "llama_lm"])
def test_settings_that_mean_nothing_are_a_fault_in_words(kind: str, settings: dict[str, Any], copied: Copy) -> None:
    assert "could not load the model" in refused(copied(kind, **settings))


def test_what_can_be_built_passes(tiny_folders: Callable[[str], Path]) -> None:
    for kind in ("bert", "albert", "llama_lm"):
        assert vet_folder(tiny_folders(kind), "causal lm" if "_lm" in kind else "sequence classification")

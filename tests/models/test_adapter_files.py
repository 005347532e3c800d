"""An adapter is read from its own folder alone, onto a base that lies on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tunesmith.errors import ModelError
from tunesmith.models.adapter_files import base_of_adapter, vet_adapter
from tunesmith.models.causal import read_causal
from tunesmith.models.from_transformers import read_classifier

READERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {"bert": read_classifier, "llama_lm": read_causal}


@pytest.fixture(params=READERS)
def delivered(request: pytest.FixtureRequest, tiny_folders: Callable[[str], Path], tmp_path: Path) -> tuple[Path, Any]:
    """A folder as a run delivers it with lora, and what reads it."""
    from peft import LoraConfig, get_peft_model

    base, folder = tiny_folders(request.param), tmp_path / "best"
    language = request.param.endswith("_lm")
    kind: Any = AutoModelForCausalLM if language else AutoModelForSequenceClassification
    target, task = ("q_proj", "CAUSAL_LM") if language else ("query", "SEQ_CLS")
    get_peft_model(
        kind.from_pretrained(base), LoraConfig(r=2, target_modules=[target], task_type=task)
    ).save_pretrained(folder)
    for file in base.glob("*.json"):
        shutil.copy(file, folder)
    change(folder, base_model_name_or_path=str(base))
    return folder, READERS[request.param]


def change(folder: Path, **settings: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def test_a_whole_adapter_is_read(delivered: tuple[Path, Any]) -> None:
    folder, read = delivered
    assert type(read(folder)[0]).__module__.startswith("peft")


def test_a_pickled_adapter_is_never_opened(
    delivered: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read = delivered
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    monkeypatch.chdir(tmp_path)
    for place in (folder, Path("best")):
        with pytest.raises(ModelError, match="never opened"):
            read(place)


@pytest.mark.parametrize("base", ["somebody/model", "model", "", 7, None])
def test_a_base_by_a_name_is_never_fetched(
    base: object, delivered: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read = delivered
    asked: list[object] = []
    for name in ("hf_hub_download", "snapshot_download", "file_exists"):
        monkeypatch.setattr(huggingface_hub, name, lambda *given, **_: asked.append(given))
    change(folder, base_model_name_or_path=base)
    with pytest.raises(ModelError, match="base"):
        read(folder)
    assert not asked


def test_a_base_that_is_gone_is_told(delivered: tuple[Path, Any]) -> None:
    folder, read = delivered
    change(folder, base_model_name_or_path="/gone/model")
    with pytest.raises(ModelError, match="which is gone"):
        read(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"peft_type": "MAGIC"},
        {"peft_type": "XLORA", "adapters": {"0": "somebody/adapter"}},
        {"megatron_config": {"a": 1}, "megatron_core": "this"},
        {"prompt_tuning_init_state_dict_path": "adapter_model.bin"},
    ],
)
def test_an_adapter_never_leads_out_of_its_folder(settings: dict[str, Any], delivered: tuple[Path, Any]) -> None:
    change(delivered[0], **settings)
    with pytest.raises(ModelError):
        vet_adapter(delivered[0])


@pytest.mark.parametrize("settings", [{"r": "two"}, {"target_modules": [1]}, {"r": 0}, {"target_modules": ["nope"]}])
def test_an_adapter_that_peft_cannot_put_on_is_a_fault_in_words(
    settings: dict[str, Any], delivered: tuple[Path, Any]
) -> None:
    folder, read = delivered
    assert base_of_adapter(folder).is_dir()
    change(folder, **settings)
    with pytest.raises(ModelError, match="could not load"):
        read(folder)


@pytest.mark.parametrize("broken", ["config.json", "tokenizer.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_broken_file_of_a_delivered_folder_is_a_fault_in_words(
    broken: str, content: bytes, delivered: tuple[Path, Any]
) -> None:
    folder, read = delivered
    if read is read_causal and broken == "config.json":
        (folder / "adapter_config.json").unlink()  # a language model's adapter is read with its base's config alone
    (folder / broken).write_bytes(content)
    with pytest.raises(ModelError):
        read(folder)

"""Traits of a model, read without its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tunesmith.errors import ModelError
from tunesmith.models.cards import ModelCard, card_of_file, card_of_folder, languages_of, licence_id


def write_model(folder: Path, *, card: str = "", licence: str = "", **config: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    tensors = {"a": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.float16)}
    save_file({**tensors, "ids": torch.zeros(9, dtype=torch.int64)}, str(folder / "model.safetensors"))
    if card:
        (folder / "README.md").write_text(card, encoding="utf-8")
    if licence:
        (folder / "LICENSE.txt").write_text(licence)
    return folder


def test_size_kind_licence_and_languages_come_from_headers_config_and_card(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", card="---\nlanguage: en\nlicense: apache-2.0\n---\nA model.")
    card = card_of_folder(folder, "m", "here")
    assert card.parameters == 3 * 5 + 7  # position numbers are no parameters
    assert (card.licence, card.languages, card.architecture) == ("apache-2.0", ("en",), "bert")
    assert card.tasks == ("text_classification",)


def test_the_count_equals_that_of_the_loaded_backbone(tiny_folders: Callable[[str], Path]) -> None:
    from transformers import AutoModel

    folder = tiny_folders("bert")
    loaded = sum(p.numel() for p in AutoModel.from_pretrained(folder).parameters())
    assert card_of_folder(folder, "m", "here").parameters == loaded


@pytest.mark.parametrize(
    ("front", "languages"),
    [
        ("language: en", ("en",)),
        ("language:\n- en\n- zh", ("en", "zh")),
        ("language:\n  - EN\n  - 'zh-CN'", ("en", "zh-cn")),
        ("language: [en, zh]  # both", ("en", "zh")),
        ("license: mit", ()),
        ("tags:\n- en\nlanguage: fr", ("fr",)),
        ("language:\ntags:\n- de", ()),
    ],
)
def test_languages_are_read_in_every_form_that_cards_have(
    tmp_path: Path, front: str, languages: tuple[str, ...]
) -> None:
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\nlanguage: it\n", encoding="utf-8")
    assert languages_of(tmp_path) == languages


def test_a_card_without_end_of_its_front_matter_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlanguage: en\n", encoding="utf-8")
    assert languages_of(tmp_path) == ()


def test_a_card_speaks_a_language_by_its_first_part_and_many_by_being_multilingual() -> None:
    card = ModelCard("m", "", "", "", "", (), 1, None, ("zh-cn",))
    assert card.speaks("zh") is True
    assert card.speaks("en") is False
    assert replace(card, languages=("multilingual",)).speaks("sw") is True
    assert replace(card, languages=()).speaks("en") is None


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Apache-2.0", "apache-2.0"),
        ("Apache License", "apache-2.0"),
        ("apache license 2.0", "apache-2.0"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("MIT License", "mit"),
        ("The MIT License (MIT)", "mit"),
        ("mit", "mit"),
        ("BSD-3-Clause", "bsd-3-clause"),
        ("BSD 3-Clause License", "bsd-3-clause"),
        ("cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("License", "license"),
    ],
)
def test_licences_are_compared_in_their_short_form(text: str, short: str) -> None:
    assert licence_id(text) == short


def test_a_licence_without_a_title_is_known_by_its_text(tmp_path: Path) -> None:
    mit = "Copyright (c) 2020 Somebody\n\nPermission is hereby granted, free of charge, to any person\nobtaining a copy"
    assert card_of_folder(write_model(tmp_path / "m", licence=mit), "m", "").licence == "mit"
    other = write_model(tmp_path / "o", licence="Ask us first.")
    assert card_of_folder(other, "o", "").licence == "Ask us first."


def test_an_adapter_and_a_folder_without_weights_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter"):
        card_of_folder(tmp_path / "a", "a", "")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="no weights"):
        card_of_folder(tmp_path / "b", "b", "")


def test_what_a_model_can_be_used_for_follows_from_its_kind(tmp_path: Path) -> None:
    tasks = {kind: card_of_folder(write_model(tmp_path / kind, model_type=kind), kind, "").tasks
             for kind in ("bert", "vit", "detr", "unheard-of")}  # fmt: skip
    assert tasks == {"bert": ("text_classification",), "vit": ("image_classification",), "detr": ("object_detection",),
                     "unheard-of": ()}  # fmt: skip
    timm = card_of_folder(write_model(tmp_path / "t", architecture="resnet18"), "t", "")
    assert (timm.library, timm.tasks) == ("timm", ("image_classification", "object_detection"))


def test_a_weight_file_that_nobody_knows_says_so(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "mine.pth")
    with pytest.raises(ModelError, match="sha256"):
        card_of_file(tmp_path / "mine.pth", "mine", "")


def test_the_shapes_of_a_known_weight_file_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.models import vision_cards
    from tunesmith.models.vision_source import file_sha256

    path = tmp_path / "known.pth"
    torch.save({"w": torch.zeros(4, 6), "n": torch.zeros((), dtype=torch.int64)}, path)
    known = vision_cards.Card("timm", "resnet18", "MIT")
    monkeypatch.setattr(vision_cards, "CARDS", {file_sha256(path): known})
    card = card_of_file(path, "known", "")
    assert (card.parameters, card.library, card.licence) == (24, "timm", "MIT")


def test_models_that_write_are_told_from_encoders_and_classifiers(tmp_path: Path) -> None:
    def tasks(name: str, **config: object) -> tuple[str, ...]:
        return card_of_folder(write_model(tmp_path / name, **config), name, "").tasks

    writing = ("causal_lm", "preference")
    assert tasks("llama", model_type="llama", architectures=["LlamaForCausalLM"]) == ("text_classification", *writing)
    assert tasks("old", model_type="gpt2") == ("text_classification", *writing)
    assert tasks("judge", model_type="llama", architectures=["LlamaForSequenceClassification"])[1:] == ()
    assert tasks("decoder", model_type="bert", is_decoder=True)[1:] == writing
    assert tasks("translator", model_type="bart", is_encoder_decoder=True)[1:] == ()


def test_a_gguf_file_says_size_licence_and_architecture_itself(tmp_path: Path) -> None:
    from tests.tiny_gguf import tiny_llama, write_gguf

    file = write_gguf(tmp_path / "tiny.gguf", kind="Q8_0")
    card = card_of_file(file, "tiny", "here")
    assert card.parameters == sum(p.numel() for p in tiny_llama().parameters())
    assert (card.architecture, card.licence_id, card.tasks) == ("llama", "apache-2.0", ("causal_lm", "preference"))
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ModelError, match="damaged"):
        card_of_file(file, "tiny", "here")

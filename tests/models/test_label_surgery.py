"""A label that the pretrained head knows keeps its row, whatever the order and number; only new ones are drawn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pictures_models import BASE_LABELS, tiny_vision_source

from tunesmith.errors import ModelError
from tunesmith.models.from_transformers import load_classifier
from tunesmith.models.kept_labels import kept_labels
from tunesmith.models.label_rows import exact_rows
from tunesmith.models.vision import load_image_classifier
from tunesmith.models.vision_heads import kept_rows, names_of
from tunesmith.types import ModelSource

KNOWN = ("sport", "politics", "Film")
OTHERS = {
    "fewer": ["Film", "sport"],
    "as many": ["Film", "weather", "sport"],
    "more": ["weather", "Film", "art", "politics", "sport"],
    "one of many": ["weather", "art", "science", "politics"],
}

Written = Callable[[str], ModelSource]


@pytest.fixture(scope="module")
def known(tiny_folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A tiny classifier of that family on disk, with a head that knows `KNOWN`."""
    root = tmp_path_factory.mktemp("known")

    def written(kind: str) -> ModelSource:
        if not (root / kind).exists():
            loaded = load_classifier(ModelSource(kind, str(tiny_folders(kind))), KNOWN, multi_label=False, seed=9)
            with torch.no_grad():
                for name, parameter in loaded.model.named_parameters():
                    if any(name.startswith(part) for part in loaded.anatomy.head):
                        parameter.normal_(0, 0.2)
            loaded.model.save_pretrained(root / kind)  # type: ignore[operator]
            loaded.processor.save_pretrained(root / kind)
        return ModelSource(kind, str(root / kind))

    return written


def logits(source: ModelSource, labels: Sequence[str], *, seed: int = 0, multi_label: bool = False) -> torch.Tensor:
    loaded = load_classifier(source, labels, multi_label=multi_label, seed=seed)
    inputs = loaded.processor(["a good film", "the plot was dull"], return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        found: torch.Tensor = loaded.model(**inputs).logits
    return found


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "gpt2"])
@pytest.mark.parametrize("labels", OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize("multi_label", [False, True])
def test_rows_of_known_labels_answer_as_before(kind: str, labels: list[str], multi_label: bool, known: Written) -> None:
    before = logits(known(kind), KNOWN)
    for seed in (1, 2):
        now = logits(known(kind), labels, seed=seed, multi_label=multi_label)
        for place, label in enumerate(labels):
            if label in KNOWN:
                was = before[:, KNOWN.index(label)]
                torch.testing.assert_close(now[:, place], was, rtol=1e-5, atol=1e-6)  # other sizes sum in other orders


def test_known_labels_are_told(known: Written, tiny_folders: Callable[[str], Path], tmp_path: Path) -> None:
    def told(source: ModelSource, labels: Sequence[str]) -> tuple[str, ...]:
        return load_classifier(source, labels, multi_label=False, seed=0).known

    assert told(known("bert"), KNOWN) == KNOWN
    assert told(known("bert"), ["weather", "Film", "art", "sport"]) == ("Film", "sport")
    assert told(known("bert"), ["weather", "art", "science"]) == ()
    assert told(ModelSource("bert", str(tiny_folders("bert"))), ["a", "b"]) == ()
    assert told(ModelSource("bert", str(tiny_folders("bert"))), ["LABEL_0", "LABEL_1"]) == ()
    source = tiny_vision_source("timm_resnet", tmp_path / "net")
    for labels, old in ((["newt", "car", "Dog"], ("car", "Dog")), (["newt"], ()), (BASE_LABELS, tuple(BASE_LABELS))):
        assert load_image_classifier(source, labels, multi_label=False, seed=1).known == old
    drawn = load_image_classifier(replace(source, weights="drawn"), ["car", "dog"], multi_label=False, seed=1)
    assert drawn.known == ()


def test_new_rows_are_small_and_drawn_from_the_seed(known: Written) -> None:
    def weight(labels: list[str], seed: int) -> torch.Tensor:
        loaded = load_classifier(known("bert"), labels, multi_label=False, seed=seed)
        return loaded.model.get_parameter("classifier.weight").detach()

    for labels in (["Film", "weather", "sport"], ["weather", "Film", "sport", "art"]):
        new = labels.index("weather")
        assert torch.equal(weight(labels, 1), weight(labels, 1))
        assert not torch.equal(weight(labels, 1)[new], weight(labels, 2)[new])
        assert weight(labels, 1)[new].abs().max() < 0.15  # five standard deviations of 0.02 and some


def test_without_a_shared_name_all_is_drawn_as_if_the_head_had_no_names(known: Written, tmp_path: Path) -> None:
    source = known("bert")
    shutil.copytree(source.path, tmp_path / "unnamed")
    config = json.loads((tmp_path / "unnamed" / "config.json").read_text())
    config["id2label"] = {str(i): f"LABEL_{i}" for i in range(3)}
    config["label2id"] = {f"LABEL_{i}": i for i in range(3)}
    (tmp_path / "unnamed" / "config.json").write_text(json.dumps(config))
    unnamed = ModelSource("unnamed", str(tmp_path / "unnamed"))
    for labels in (["a", "b"], ["a", "b", "c"], ["Sport", "film", " politics", "x"]):
        assert torch.equal(logits(source, labels), logits(unnamed, labels))
    assert not torch.allclose(logits(source, ["sport", "b"]), logits(unnamed, ["sport", "b"]))


def test_only_the_very_same_name_keeps_a_text_label_s_row() -> None:
    assert exact_rows(["a", "B", "c"], ["b", "c ", "B"]) == {2: 1}
    assert exact_rows(["a", "a", "b"], ["b", "a"]) == {0: 2}  # which of the two rows would "a" be?
    assert exact_rows(["LABEL_0", "LABEL_1"], ["LABEL_1", "x"]) == {}
    assert exact_rows(["LABEL_0", "LABEL_1"], ["LABEL_1", "LABEL_0"]) == {0: 1, 1: 0}


def test_rows_are_found_in_shards(known: Written, tmp_path: Path) -> None:
    source = known("bert")
    loaded = load_classifier(source, KNOWN, multi_label=False, seed=0)
    loaded.model.save_pretrained(tmp_path, max_shard_size="20KB")  # type: ignore[operator]
    loaded.processor.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    labels = ["art", "Film", "weather", "sport"]
    assert torch.equal(logits(ModelSource("s", str(tmp_path)), labels), logits(source, labels))


@pytest.mark.parametrize("kind", ["timm_resnet", "torchvision_mobilenet", "hf_vit"])
def test_pictures_keep_rows_too(kind: str, tmp_path: Path) -> None:
    source = tiny_vision_source(kind, tmp_path / kind)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def answers(labels: Sequence[str]) -> torch.Tensor:
        model: Any = load_image_classifier(source, labels, multi_label=False, seed=1).model
        with torch.no_grad():
            found = model(pixels)
        logits: torch.Tensor = getattr(found, "logits", found)
        return logits

    labels, before = ["newt", "car", "dog"], answers(BASE_LABELS)
    wanted = before[:, [BASE_LABELS.index("car"), BASE_LABELS.index("dog")]]
    torch.testing.assert_close(answers(labels)[:, 1:], wanted, rtol=1e-5, atol=1e-6)
    kept = kept_labels(source, ["newt", "Dog"], kind="images")
    assert kept == ("cat", "Dog", "tree", "house", "car", "newt")
    torch.testing.assert_close(answers(kept)[:, :5], before, rtol=1e-5, atol=1e-6)


def test_a_label_in_other_capitals_does_not_take_the_row_of_one_that_is_exact() -> None:
    assert kept_rows(names_of(["dog", "Cat"]), ["Dog", "dog", "cat"]) == {1: 0, 2: 1}
    assert kept_rows(names_of(["A", "a"]), ["a", "A"]) == {0: 1, 1: 0}
    assert kept_rows(names_of(["red, dark", "blue"]), ["red", "red, dark"]) == {1: 0}


def test_old_labels_come_first_in_their_order(known: Written) -> None:
    assert kept_labels(known("bert"), ["weather", "Film", "art"], kind="texts") == (*KNOWN, "weather", "art")


def test_a_head_without_names_or_no_head_has_nothing_to_keep(
    tiny_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="nothing to keep"):
        kept_labels(ModelSource("bert", str(tiny_folders("bert"))), ["a", "b"], kind="texts")
    classifier = tiny_vision_source("timm_resnet", tmp_path / "net")
    with pytest.raises(ModelError, match="keep_labels"):  # a classifier's classes are none of a detector's
        kept_labels(classifier, ["a"], kind="boxes")
    drawn = replace(classifier, weights="drawn")
    with pytest.raises(ModelError, match="keep_labels"):
        kept_labels(drawn, ["a"], kind="images")


def test_imagenet_s_classes_stay_beside_new_ones_each_under_one_name(tmp_path: Path) -> None:
    from tunesmith.models.vision_cards import imagenet_names

    source = tiny_vision_source("hf_resnet", tmp_path / "net")
    from transformers import AutoModelForImageClassification

    told = {i: names[1] for i, names in enumerate(imagenet_names())}
    model = AutoModelForImageClassification.from_pretrained(
        source.path, id2label=told, label2id={n: i for i, n in told.items()}, ignore_mismatched_sizes=True
    )
    model.save_pretrained(source.path)
    kept = kept_labels(source, ["ant", "newt of ours"], kind="images")
    assert (len(kept), len(set(kept)), kept[310], kept[-1]) == (1001, 1001, "ant", "newt of ours")
    loaded = load_image_classifier(source, kept, multi_label=False, seed=0)
    assert torch.equal(loaded.model.classifier[-1].weight[:1000], model.classifier[-1].weight)  # type: ignore[index,union-attr]


def test_a_detector_keeps_its_own_classes_first(tmp_path: Path) -> None:
    from tests.tiny_detectors import over_backbone, transformers_folder

    from tunesmith.models.detectors.files import write_detector
    from tunesmith.models.detectors.load import load_detector

    source = ModelSource("detr", str(transformers_folder("detr", tmp_path / "detr")))
    assert kept_labels(source, ["dog", "cat"], kind="boxes") == ("white cell", "dog", "platelet", "cat")
    pretrained = over_backbone("retinanet")
    write_detector(pretrained.model, tmp_path / "net", pretrained)
    own = ModelSource("net", str(tmp_path / "net"), library="torchvision", architecture="retinanet")
    assert load_detector(own, ["cat", "red cell"], seed=0).known == ("red cell",)
    assert load_detector(own, ["cat"], seed=0).known == ()
    assert load_detector(source, ["dog", "cat"], seed=0).known == ("dog",)
    assert kept_labels(own, ["cat"], kind="boxes") == ("platelet", "red cell", "white cell", "cat")
    coco = ModelSource("c", "", library="torchvision", architecture="ssd300_vgg16")
    assert kept_labels(coco, ["person"], kind="boxes")[0] == "person"
    assert len(kept_labels(coco, ["platelet"], kind="boxes")) == 81

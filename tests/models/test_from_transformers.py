"""A classifier's rows go by label name, new weights by the seed, and parts are found whatever their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tunesmith.models.from_transformers import load_classifier
from tunesmith.types import ModelSource


@pytest.fixture
def classifier(tiny_folders: Callable[[str], Path], tmp_path: Path) -> ModelSource:
    """A tiny BERT with a head that knows "yes" and "no", in this order."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tiny_folders("bert")
    torch.manual_seed(99)
    names = {0: "yes", 1: "no"}
    model = AutoModelForSequenceClassification.from_pretrained(folder, id2label=names, label2id={"yes": 0, "no": 1})
    model.save_pretrained(tmp_path / "known")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "known")
    return ModelSource("known", str(tmp_path / "known"))


def weight(source: ModelSource, labels: list[str], seed: int = 0) -> torch.Tensor:
    model = load_classifier(source, labels, multi_label=False, seed=seed).model
    return model.get_submodule("classifier").weight.detach()  # type: ignore[union-attr]


def test_known_labels_keep_their_rows_in_any_order(classifier: ModelSource) -> None:
    assert torch.equal(weight(classifier, ["no", "yes"]), weight(classifier, ["yes", "no"]).flip(0))
    assert torch.equal(weight(classifier, ["no", "yes"], seed=1), weight(classifier, ["no", "yes"], seed=2))


def test_other_labels_draw_the_rows_anew_from_the_seed(classifier: ModelSource) -> None:
    known = weight(classifier, ["yes", "no"])
    fresh = weight(classifier, ["cat", "dog"], seed=1)
    assert not torch.allclose(fresh, known)
    assert torch.equal(fresh, weight(classifier, ["cat", "dog"], seed=1))
    assert not torch.equal(fresh, weight(classifier, ["cat", "dog"], seed=2))


def test_a_head_of_another_size_is_drawn_anew(classifier: ModelSource) -> None:
    loaded = load_classifier(classifier, ["a", "b", "c"], multi_label=False, seed=0)
    assert loaded.anatomy.classifier == ("classifier",)
    assert loaded.model.config.id2label == {0: "a", 1: "b", 2: "c"}  # type: ignore[union-attr]


def settled(source: ModelSource, folder: Path, **options: str) -> tuple[dict[str, object], object]:
    import numpy as np

    from tunesmith.data.encoded import encode_to_disk
    from tunesmith.evaluate.evaluate import Part
    from tunesmith.tasks.text_classification import TextClassification
    from tunesmith.types import Example

    task = TextClassification(max_length=16, **options)  # type: ignore[arg-type]
    loaded = task.load(source, ["a", "b"], multi_label=False, seed=0)
    rows = [Example({"text": f"{'good' if i % 2 else 'bad'} film {chr(97 + i)}"}, "ab"[i % 2]) for i in range(24)]
    encoded = encode_to_disk(rows, lambda some: task.encode(some, loaded.processor), folder / "x.arrow")  # type: ignore[arg-type]
    part = Part(encoded, np.array([i % 2 for i in range(24)]), ("a", "b"))
    return {name: value for name, (value, _) in task.start(loaded, part).items()}, loaded.model


def test_pooling_is_settled_by_card_pooler_or_probe(tiny_folders: Callable[[str], Path], tmp_path: Path) -> None:
    import json
    import shutil

    bert = ModelSource("b", str(tiny_folders("bert")))
    assert settled(bert, tmp_path)[0] == {"pooling": "cls"}
    carded = tmp_path / "carded"
    shutil.copytree(tiny_folders("bert"), carded)
    (carded / "1_Pooling").mkdir()
    (carded / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    found, model = settled(ModelSource("c", str(carded)), tmp_path)
    assert found == {"pooling": "fitted"}
    again = settled(ModelSource("c", str(carded)), tmp_path, pooling="fitted")[1]
    plain = settled(ModelSource("c", str(carded)), tmp_path, pooling="cls")[1]
    weights = [m.bert.pooler.dense.weight for m in (model, again, plain)]  # type: ignore[attr-defined]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    probed, model = settled(ModelSource("m", str(tiny_folders("modernbert"))), tmp_path)
    assert probed["pooling"] == model.config.classifier_pooling  # type: ignore[attr-defined]
    assert probed["pooling"] in ("cls", "mean")
    assert settled(ModelSource("r", str(tiny_folders("roberta"))), tmp_path)[0] == {}

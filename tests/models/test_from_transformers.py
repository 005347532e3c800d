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

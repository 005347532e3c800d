"""Scores against hand-computed numbers and scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from tunesmith.errors import NotFiniteError
from tunesmith.metrics import classification as ours

LABELS = ("a", "b", "c")


def draw(examples: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, examples)
    return generator.normal(size=(examples, classes)) + 1.2 * np.eye(classes)[targets], targets


def test_four_examples_worked_out_by_hand() -> None:
    # answers a a b c, truth a b b c
    logits = np.log(np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]))
    scores = ours.single_label(logits, np.array([0, 1, 1, 2]), LABELS)
    assert scores["accuracy"] == 0.75
    assert scores["f1/a"] == pytest.approx(2 / 3)  # 1 right, 1 false alarm
    assert scores["f1/b"] == pytest.approx(2 / 3)  # 1 right, 1 missed
    assert scores["f1/c"] == 1.0
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert scores["nll"] == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.8]).mean())
    # 15 bins: 0.8 and 0.8 share one (12/15 < 0.8 does not hold: 0.8 is its upper end), 0.6 and 0.7 have their own
    assert scores["ece"] == pytest.approx((2 * 0.2 + 0.6 + 0.3) / 4)
    # c s - sum p t = 3*4 - (2*1 + 1*2 + 1*1) = 7; spreads 16 - 6 and 16 - 6
    assert scores["mcc"] == pytest.approx(7 / 10)


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_single_label_scores_agree_with_scikit_learn(classes: int) -> None:
    logits, targets = draw(600, classes, seed=classes)
    answers, labels = logits.argmax(axis=1), [f"class {i}" for i in range(classes)]
    scores = ours.single_label(logits, targets, labels)
    assert scores["accuracy"] == pytest.approx(reference.accuracy_score(targets, answers))
    assert scores["macro_f1"] == pytest.approx(reference.f1_score(targets, answers, average="macro"))
    assert scores["mcc"] == pytest.approx(reference.matthews_corrcoef(targets, answers))
    assert scores["nll"] == pytest.approx(reference.log_loss(targets, ours.softmax(logits)))
    each = reference.f1_score(targets, answers, average=None)
    assert [scores[f"f1/{label}"] for label in labels] == pytest.approx(list(each))
    if classes == 2:
        assert scores["auroc"] == pytest.approx(reference.roc_auc_score(targets, logits[:, 1] - logits[:, 0]))
    else:
        area = reference.roc_auc_score(targets, ours.softmax(logits), multi_class="ovr", average="macro")
        assert scores["auroc"] == pytest.approx(area)


def test_multi_label_scores_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(4)
    targets = (generator.random((300, 3)) < (0.5, 0.2, 0.05)).astype(np.float32)
    logits = generator.normal(size=(300, 3)) * 2 + 2 * targets - 1
    thresholds = np.array([0.0, -0.8, 0.8])
    scores = ours.multi_label(logits, targets, LABELS, thresholds)
    answers = logits > thresholds
    assert scores["micro_f1"] == pytest.approx(reference.f1_score(targets, answers, average="micro"))
    assert scores["macro_f1"] == pytest.approx(reference.f1_score(targets, answers, average="macro"))
    assert scores["subset_accuracy"] == pytest.approx(reference.accuracy_score(targets, answers))
    assert scores["auroc"] == pytest.approx(reference.roc_auc_score(targets, logits, average="macro"))
    entries = reference.log_loss(targets.ravel(), ours.sigmoid(logits).ravel())
    assert scores["nll"] == pytest.approx(entries)


def test_macro_f1_of_single_scores_is_the_one_in_the_table() -> None:
    logits, targets = draw(200, 3, seed=1)
    scores = ours.single_label(logits, targets, LABELS)
    assert ours.macro_f1(logits, targets) == scores["macro_f1"]
    assert ours.matthews(logits, targets) == scores["mcc"]


def test_an_absent_class_leaves_auroc_and_its_f1_out_without_a_warning() -> None:
    logits = np.array([[2.0, 0.0, -9.0], [0.0, 2.0, -9.0], [2.0, 0.0, -9.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = ours.single_label(logits, np.array([0, 1, 1]), LABELS)
    assert "auroc" not in scores
    assert "f1/c" not in scores
    assert scores["macro_f1"] == pytest.approx(2 / 3)
    assert all(np.isfinite(value) for value in scores.values())


def test_one_class_only_gives_scores_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = ours.single_label(np.zeros((3, 1)), np.zeros(3, np.int64), ("only",))
        none = ours.multi_label(np.full((2, 2), -3.0), np.zeros((2, 2)), ("x", "y"))
    assert scores["accuracy"] == 1.0
    assert scores["mcc"] == 0.0
    assert none["micro_f1"] == 0.0
    assert none["subset_accuracy"] == 1.0


def test_confusion_has_truth_in_rows() -> None:
    counts = ours.confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    targets, answers = np.random.default_rng(0).integers(0, 7, (2, 500))
    assert (ours.confusion(targets, answers, 7) == reference.confusion_matrix(targets, answers)).all()


def test_thresholds_maximise_f1_of_every_class_by_exhaustion() -> None:
    generator = np.random.default_rng(2)
    targets = (generator.random((120, 4)) < (0.5, 0.2, 0.1, 0.0)).astype(int)
    logits = np.round(generator.normal(size=(120, 4)) + targets - 1.0, 1)  # rounded: ties must not be cut apart
    found = ours.tune_thresholds(logits, targets)
    assert found[3] == 0.0
    for column in range(3):
        values, truth = logits[:, column], targets[:, column]
        grid = [reference.f1_score(truth, values >= cut, zero_division=0) for cut in np.unique(values)]
        got = reference.f1_score(truth, values > found[column])
        assert got == pytest.approx(max(grid))
        assert got >= reference.f1_score(truth, values > 0)


def test_a_threshold_stays_at_nought_where_that_is_best() -> None:
    found = ours.tune_thresholds(np.array([[-3.0], [-2.0], [2.0], [3.0]]), np.array([[0], [0], [1], [1]]))
    assert found.tolist() == [0.0]


def test_extreme_logits_stay_finite() -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ours.single_label(logits, np.array([1, 1]), ("x", "y"))["nll"] == pytest.approx(1e4)
        assert ours.sigmoid(logits).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_logit_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(NotFiniteError, match="1 of 2 examples"):
        ours.single_label(np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([0, 1]), ("x", "y"))


def test_shapes_that_disagree_are_named() -> None:
    with pytest.raises(ValueError, match=r"\[2, 2\].*3 labels"):
        ours.single_label(np.zeros((2, 2)), np.zeros(2, int), LABELS)
    with pytest.raises(ValueError, match="a target for each"):
        ours.single_label(np.zeros((0, 3)), np.zeros(0, int), LABELS)


def test_auroc_ranks_what_saturated_probabilities_no_longer_tell_apart() -> None:
    logits = np.array([[50.0, 0.0], [45.0, 0.0], [60.0, 0.0], [55.0, 0.0]])
    assert ours.single_label(logits, np.array([0, 1, 0, 0]), ("a", "b"))["auroc"] == 1.0
    wide = np.concatenate([logits, np.full((4, 1), -2000.0)], axis=1)
    np.testing.assert_allclose(ours.log_odds(wide)[:, 0], [50, 45, 60, 55])
    np.testing.assert_allclose(ours.log_odds(wide)[:, 2], [-2050, -2045, -2060, -2055])


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_log_odds_are_those_of_the_probabilities(classes: int) -> None:
    logits, targets = draw(600, classes, seed=classes)
    chances = ours.softmax(logits)
    np.testing.assert_allclose(ours.log_odds(logits), np.log(chances / (1 - chances)), rtol=1e-9, atol=1e-12)
    truth = np.eye(classes, dtype=np.int64)[targets]
    assert ours.area_under_roc(ours.log_odds(logits), truth) == ours.area_under_roc(chances, truth)


def test_log_odds_of_a_class_that_is_impossible_are_no_nan() -> None:
    found = ours.log_odds(np.array([[-np.inf, 0.0], [0.0, 0.0]]))
    assert found.tolist() == [[-np.inf, np.inf], [0.0, 0.0]]

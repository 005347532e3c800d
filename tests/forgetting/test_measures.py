"""Every number of forgetting against one worked out by hand or written out plainly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunesmith.forgetting import measures
from tunesmith.metrics import interval
from tunesmith.metrics.classification import accuracy
from tunesmith.types import Interval, MainScore

UP, DOWN = MainScore("accuracy", "higher"), MainScore("loss", "lower")
MATRIX = [[0.9, 0.1, 0.1], [0.7, 0.8, 0.2], [0.8, 0.5, 0.6]]


def test_what_is_lost_is_above_zero_in_either_direction() -> None:
    assert measures.lost(0.9, 0.7, UP) == pytest.approx(0.2)
    assert measures.lost(1.5, 1.9, DOWN) == pytest.approx(0.4)


def test_the_highest_score_is_the_best_one_and_never_one_that_is_no_number() -> None:
    assert measures.highest([0.4, float("nan"), 0.9, 0.8], UP) == 0.9
    assert measures.highest([1.4, 1.2, float("nan")], DOWN) == 1.2
    assert np.isnan(measures.highest([float("nan")], UP))


def test_backward_transfer_is_the_mean_of_last_minus_own_over_all_but_the_last_task() -> None:
    # task 0: 0.8 - 0.9 = -0.1; task 1: 0.5 - 0.8 = -0.3
    assert measures.backward_transfer(MATRIX, UP) == pytest.approx(-0.2)
    assert measures.backward_transfer(MATRIX, DOWN) == pytest.approx(0.2)


def test_forgetting_of_a_sequence_is_the_highest_before_the_last_minus_the_last() -> None:
    # task 0: max(0.9, 0.7) - 0.8 = 0.1; task 1: 0.8 - 0.5 = 0.3
    assert measures.average_forgetting(MATRIX, UP) == pytest.approx(0.2)


def test_a_single_task_has_no_backward_transfer() -> None:
    with pytest.raises(ValueError, match="two tasks"):
        measures.backward_transfer([[1.0]], UP)


def test_agreement_and_divergence_by_hand() -> None:
    before = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    now = np.log(np.array([[0.25, 0.75], [0.2, 0.8]]))
    assert measures.agrees(now, before).tolist() == [0.0, 0.0]
    assert measures.agrees(before + 7, before).tolist() == [1.0, 1.0]
    by_hand = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0.9 * np.log(4.5) + 0.1 * np.log(0.125)]
    np.testing.assert_allclose(measures.divergence(before, now), by_hand, rtol=1e-12)
    assert measures.divergence(before, before).tolist() == [0.0, 0.0]


def hsic_reference(x: np.ndarray, y: np.ndarray) -> float:
    """CKA by centred Gram matrices, as in eq. 1 to 3 of the source."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, gram = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    return float(np.trace(k @ gram) / np.sqrt(np.trace(k @ k) * np.trace(gram @ gram)))


def drawn(seed: int, size: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(30, size))


def test_cka_equals_the_formula_of_gram_matrices() -> None:
    x, y = drawn(0), drawn(1, 6) + drawn(0).sum(axis=1, keepdims=True)
    assert measures.linear_cka(x, y) == pytest.approx(hsic_reference(x, y), rel=1e-12)


def test_cka_knows_neither_rotation_nor_scale_nor_shift_but_does_know_another_structure() -> None:
    x = drawn(0)
    turned = np.linalg.qr(drawn(2)[:4])[0]
    assert measures.linear_cka(x, 3 * x @ turned + 5) == pytest.approx(1.0, abs=1e-12)
    assert measures.linear_cka(x, drawn(1)) < 0.5
    assert measures.linear_cka(x, np.ones((30, 2))) == 0


def test_cka_of_resamples_equals_cka_of_the_resampled_rows() -> None:
    x, y = drawn(0), drawn(1) + drawn(0)
    rows = np.random.default_rng(3).integers(0, 30, size=(5, 30))
    counts = np.stack([np.bincount(row, minlength=30) for row in rows])
    by_rows = [measures.linear_cka(x[row], y[row]) for row in rows]
    np.testing.assert_allclose(measures.Similarity(x, y).of(counts), by_rows, rtol=1e-10)


def test_the_interval_of_lost_similarity_covers_it_and_is_nothing_for_the_same_features() -> None:
    x = drawn(0)
    found = measures.similarity_lost(x, x, x + drawn(1), seed=0)
    assert found.value == pytest.approx(1 - measures.linear_cka(x, x + drawn(1)))
    assert 0 < found.low <= found.value <= found.high < 1
    same = measures.similarity_lost(x, x, x, seed=0)
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_cosine_by_hand() -> None:
    one, other = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]), np.array([[4.0, 3.0], [0.0, 2.0], [1.0, 1.0]])
    np.testing.assert_allclose(measures.cosine(one, other), [0.96, 0.0, 0.0])


def test_intervals_from_counts_are_those_of_the_same_resamples() -> None:
    values = drawn(0)[:, 0]
    by_counts = interval.bootstrap_counts(lambda counts: counts @ values / counts.sum(axis=1), 30, seed=2)
    plain = interval.bootstrap_mean(values, seed=2)
    assert (by_counts.low, by_counts.value, by_counts.high) == pytest.approx((plain.low, plain.value, plain.high))


class Known:
    """An old task of four examples with right answers 0, 0, 1, 1."""

    kind, name, definition, labelled, parts = "run", "known", "accuracy of all", True, ("test", "validation")
    main = UP
    truth = np.array([0, 0, 1, 1])

    def rows(self, part: str) -> int:
        return 4

    def score(self, answers: np.ndarray, part: str) -> dict[str, float]:
        return {"accuracy": accuracy(answers, self.truth)}

    def forgetting(self, first: np.ndarray, last: np.ndarray, part: str) -> Interval:
        return measures.turned(interval.paired_difference(accuracy, first, last, self.truth, seed=0), self.main)


def answers(*classes: int) -> np.ndarray:
    return np.eye(2)[list(classes)]


def test_the_summary_of_an_old_task_holds_all_its_numbers() -> None:
    right, half, most = answers(0, 0, 1, 1), answers(1, 1, 1, 1), answers(0, 1, 1, 1)
    task: Any = Known()
    before, after = {"test": right, "validation": most}, {"test": half, "validation": half}
    found = measures.summary(task, before, after, off=right, seen=[0.5, 1.0])
    assert found["before"] == {"accuracy": 1.0}
    assert found["after"] == {"accuracy": 0.5}
    assert found["off"] == {"accuracy": 1.0}
    value, low, high = found["forgetting"]["initial_minus_last"]
    assert value == 0.5
    assert 0 <= low < value < high <= 1
    assert found["forgetting"]["off"] == [0.0, 0.0, 0.0]
    # on the validation part: 0.75 before, 0.5 and 1.0 at evaluations, 0.5 at the end
    assert (found["highest"], found["highest_part"]) == (1.0, "validation")
    assert found["forgetting"]["highest_minus_last"] == 0.5
    assert found["main_score"] == {"name": "accuracy", "better": "higher"}
    assert (found["kind"], found["part"], found["rows"]) == ("run", "test", 4)


def test_the_summary_has_no_off_where_the_method_cannot_be_switched_off() -> None:
    task: Any = Known()
    both = {"test": answers(0, 0, 1, 1), "validation": answers(0, 0, 1, 1)}
    found = measures.summary(task, both, both)
    assert "off" not in found
    assert "off" not in found["forgetting"]
    assert found["forgetting"]["initial_minus_last"] == [0.0, 0.0, 0.0]


def test_the_paired_interval_covers_what_is_really_lost() -> None:
    """Nine of ten draws or more hold the true loss of 0.2; each interval claims 95 %."""
    draw = np.random.default_rng(0)
    held = 0
    for seed in range(40):
        first = (draw.random(200) < 0.9).astype(int)
        last = np.where(draw.random(200) < 2 / 9, 0, first)  # 0.9 -> 0.7
        truth = np.ones(200, dtype=int)
        change = interval.paired_difference(
            accuracy, np.eye(2)[first], np.eye(2)[last], truth, seed=seed, resamples=200
        )
        found = measures.turned(change, UP)
        held += found.low <= 0.2 <= found.high
    assert held >= 36


def test_features_that_collapsed_are_like_nothing_and_are_no_nan() -> None:
    x = drawn(0)
    for collapsed in (np.zeros((30, 4)), np.full((30, 2), 0.1)):  # a mean of 0.1 is not 0.1 to the last bit
        assert measures.linear_cka(x, collapsed) == 0.0
        found = measures.similarity_lost(x, x, collapsed, seed=0)
        assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1), abs=1e-12)
    assert np.isnan(measures.linear_cka(np.ones((30, 2)), x))
    assert np.isnan(measures.linear_cka(x, np.full((30, 4), np.nan)))
    assert np.isnan(measures.similarity_lost(x, x, np.full((30, 4), np.nan), seed=0).value)


def test_a_choice_is_noted_where_it_was_made_on_the_reported_examples() -> None:
    told = {"own": {"part": "test", "highest_part": "validation"}, "harness": {"part": "test", "highest_part": "test"}}
    measures.note_choice(told, [])
    assert "chosen_by" not in told["harness"]
    measures.note_choice(told, ["wise_ft"])
    assert told["harness"]["chosen_by"] == ["wise_ft"]  # type: ignore[comparison-overlap]
    assert "chosen_by" not in told["own"]


def test_where_no_picture_holds_a_true_box_what_is_lost_is_not_known() -> None:
    ap = MainScore("ap", "higher")
    assert np.isnan(measures.lost(-1.0, -1.0, ap))
    assert measures.lost(0.5, 0.25, ap) == 0.25
    assert measures.lost(-1.0, -0.5, MainScore("mcc", "higher")) == -0.5

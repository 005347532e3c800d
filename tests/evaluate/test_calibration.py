"""Temperature and reliability against constructed truth."""

from __future__ import annotations

import numpy as np
import pytest

from tunesmith.evaluate.calibration import HIGHEST, LOWEST, fit_temperature, reliability
from tunesmith.metrics.classification import (
    expected_calibration_error,
    log_softmax,
    sigmoid,
    softmax,
)


def honest(examples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the very chance from which the targets were drawn."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(examples, 4)) * 2
    targets = (softmax(logits).cumsum(axis=1) < generator.random((examples, 1))).sum(axis=1)
    return logits, targets


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_known_overconfidence(factor: float) -> None:
    logits, targets = honest(20_000)
    assert fit_temperature(logits * factor, targets) == pytest.approx(factor, rel=0.04)


def test_the_temperature_is_the_minimum_of_the_likelihood_of_softened_targets() -> None:
    logits, targets = honest(500, seed=1)
    best = fit_temperature(3 * logits, targets)
    soft = np.full(logits.shape, 1 / (500 + logits.shape[1]))  # (n + 1) / (n + classes) for the true class
    soft[np.arange(500), targets] += 500 / (500 + logits.shape[1])

    def likelihood(temperature: float) -> float:
        return float(-(soft * log_softmax(3 * logits / temperature)).sum(axis=1).mean())

    for other in np.exp(np.linspace(-2, 3, 200)):
        assert likelihood(best) <= likelihood(float(other)) + 1e-9


def test_being_right_on_all_of_few_examples_makes_no_model_sure_of_everything() -> None:
    targets = np.arange(12) % 3
    logits = 4 * np.eye(3)[targets]
    sure = np.exp(log_softmax(logits / fit_temperature(logits, targets))).max()
    assert 0.8 < sure < 0.95  # about (12 + 1) / (12 + 3)


def test_multi_label_temperature_undoes_a_known_overconfidence() -> None:
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(8000, 3)) * 2
    targets = (generator.random(logits.shape) < sigmoid(logits)).astype(int)
    assert fit_temperature(2.5 * logits, targets) == pytest.approx(2.5, rel=0.05)


def test_a_model_that_is_always_right_keeps_a_bounded_temperature() -> None:
    assert LOWEST <= fit_temperature(np.eye(3) * 5, np.arange(3)) <= HIGHEST
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0


def test_reliability_counts_every_example_once_in_the_right_bin() -> None:
    chances = np.array([[0.5, 0.5], [0.6, 0.4], [0.95, 0.05], [0.05, 0.95], [1.0, 0.0]])
    bins = reliability(chances, np.array([0, 1, 0, 0, 0]), bins=10)
    assert [b.count for b in bins] == [0, 0, 0, 0, 1, 1, 0, 0, 0, 3]  # 0.5 is the upper end of (0.4, 0.5]
    assert bins[9].accuracy == pytest.approx(2 / 3)
    assert bins[9].confidence == pytest.approx((0.95 + 0.95 + 1.0) / 3)
    assert (bins[4].accuracy, bins[5].accuracy) == (1.0, 0.0)
    assert np.isnan(bins[0].accuracy)


def test_the_bins_add_up_to_the_calibration_error() -> None:
    logits, targets = honest(3000)
    chances = softmax(logits * 2)
    bins = [b for b in reliability(chances, targets) if b.count]
    gap = sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / len(targets)
    assert gap == pytest.approx(expected_calibration_error(chances, targets))
    assert expected_calibration_error(softmax(logits), targets) < 0.03 < gap


def test_multi_label_reliability_takes_every_entry() -> None:
    bins = reliability(np.array([[0.1, 0.9], [0.2, 0.9]]), np.array([[0, 1], [0, 0]]), bins=2)
    assert [b.count for b in bins] == [2, 2]
    assert [b.accuracy for b in bins] == [0.0, 0.5]

"""Bootstrap intervals: exact against a plain loop, sane in coverage, paired."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.metrics import classification, interval


def draw(examples: int, seed: int, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 3, examples)
    return generator.normal(size=(examples, 3)) + gain * np.eye(3)[targets], targets


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**31 - 1), st.sampled_from(["accuracy", "macro_f1", "ece", "nll"]))
def test_the_interval_holds_its_point_and_is_ordered(examples: int, seed: int, name: str) -> None:
    logits, targets = draw(examples, seed)
    statistic = {
        "accuracy": classification.accuracy,
        "macro_f1": classification.macro_f1,
        "nll": classification.negative_log_likelihood,
        "ece": lambda x, t: classification.expected_calibration_error(classification.softmax(x), t),
    }[name]
    found = interval.bootstrap(statistic, logits, targets, seed=seed, resamples=50)
    assert found.value == statistic(logits, targets)
    assert found.low <= found.value <= found.high


def test_the_vectorised_path_equals_the_plain_one() -> None:
    logits, targets = draw(97, seed=3)
    plain = interval.bootstrap(classification.accuracy, logits, targets, seed=5)
    fast = interval.bootstrap_mean(logits.argmax(axis=1) == targets, seed=5)
    assert (plain.value, plain.low, plain.high) == pytest.approx((fast.value, fast.low, fast.high), abs=1e-12)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(0).random(80)
    assert interval.bootstrap_mean(values, seed=1) == interval.bootstrap_mean(values, seed=1)
    assert interval.bootstrap_mean(values, seed=1) != interval.bootstrap_mean(values, seed=2)


def test_width_follows_the_normal_theory() -> None:
    # 400 answers, 80 % right: standard error 0.02, so about 0.80 - 0.04 to 0.80 + 0.04
    correct = np.arange(400) % 5 > 0
    found = interval.bootstrap_mean(correct, seed=0, resamples=4000)
    assert found.low == pytest.approx(0.8 - 1.96 * 0.02, abs=0.006)
    assert found.high == pytest.approx(0.8 + 1.96 * 0.02, abs=0.006)


def test_ninety_five_in_a_hundred_intervals_hold_the_truth() -> None:
    generator = np.random.default_rng(8)
    held = 0
    for seed in range(300):
        found = interval.bootstrap_mean(generator.random(100) < 0.7, seed=seed, resamples=400)
        held += found.low <= 0.7 <= found.high
    assert 0.90 <= held / 300 <= 0.985  # three standard errors around 0.95, which the percentile form undercuts a bit


def test_a_paired_difference_is_zero_for_the_same_answers_and_narrow_for_nearly_the_same() -> None:
    logits, targets = draw(200, seed=1)
    same = interval.paired_difference(classification.accuracy, logits, logits, targets)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    better = logits.copy()
    wrong = np.flatnonzero(logits.argmax(axis=1) != targets)[:10]
    better[wrong, targets[wrong]] += 100
    gain = interval.paired_difference(classification.accuracy, logits, better, targets, seed=2)
    alone = interval.bootstrap(classification.accuracy, better, targets, seed=2)
    assert gain.value == pytest.approx(0.05)
    assert gain.low > 0
    assert gain.high - gain.low < alone.high - alone.low


def test_the_vectorised_paired_path_equals_the_plain_one() -> None:
    before, targets = draw(120, seed=1, gain=0.3)
    after, _ = draw(120, seed=1, gain=2.0)
    plain = interval.paired_difference(classification.accuracy, before, after, targets, seed=7)
    fast = interval.paired_mean_difference(before.argmax(axis=1) == targets, after.argmax(axis=1) == targets, seed=7)
    assert (plain.value, plain.low, plain.high) == pytest.approx((fast.value, fast.low, fast.high), abs=1e-12)


def test_a_statistic_without_a_value_gives_an_interval_without_ends() -> None:
    found = interval.bootstrap(lambda logits, targets: float("nan"), *draw(9, seed=0), resamples=10)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_pairs_of_unequal_length_and_no_examples_are_refused() -> None:
    logits, targets = draw(5, seed=0)
    with pytest.raises(ValueError, match="5 before, 4 after"):
        interval.paired_difference(classification.accuracy, logits, logits[:4], targets)
    with pytest.raises(ValueError, match="at least one example"):
        interval.bootstrap_mean(np.zeros(0))

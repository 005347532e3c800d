"""LogME, H-score and the linear probe, each against a direct reference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.linear_model import LogisticRegression

from tunesmith.metrics.transfer import FLOOR, h_score, linear_probe, logme


def blobs(rows: int, features: int, classes: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, classes, rows)
    return draw.normal(size=(rows, features)) + apart * draw.normal(size=(classes, features))[targets], targets


def reference_logme(features: np.ndarray, targets: np.ndarray) -> float:
    """The evidence as it is defined, a Gaussian over all rows, maximised by a general optimiser."""
    found = []
    for each in np.unique(targets):
        y = (targets == each).astype(float)

        def minus(logs: np.ndarray, y: np.ndarray = y) -> float:
            a, b = np.exp(logs)
            covariance = np.eye(len(y)) / b + features @ features.T / a
            return -float(multivariate_normal.logpdf(y, np.zeros(len(y)), covariance))

        starts = [minimize(minus, start, method="Nelder-Mead").fun for start in ([0.0, 1.0], [4.0, 2.0])]
        found.append(-min(starts) / len(y))
    return float(np.mean(found))


def paper_logme(features: np.ndarray, targets: np.ndarray) -> float:
    """The fixed point of You et al. 2021, algorithm 1, written out with full matrices."""
    n, d = features.shape
    found = []
    for each in np.unique(targets):
        y, a, b = (targets == each).astype(float), 1.0, 1.0
        for _ in range(300):
            inner = a * np.eye(d) + b * features.T @ features
            m = b * np.linalg.solve(inner, features.T @ y)
            own = np.linalg.eigvalsh(b * features.T @ features)
            gamma = (own / (a + own)).sum()
            a, b = gamma / (m @ m), (n - gamma) / ((features @ m - y) ** 2).sum()
        inner = a * np.eye(d) + b * features.T @ features
        m = b * np.linalg.solve(inner, features.T @ y)
        evidence = (
            n / 2 * np.log(b) + d / 2 * np.log(a) - n / 2 * np.log(2 * np.pi)
            - b / 2 * ((features @ m - y) ** 2).sum() - a / 2 * m @ m - np.linalg.slogdet(inner)[1] / 2
        )  # fmt: skip
        found.append(evidence / n)
    return float(np.mean(found))


@pytest.mark.parametrize(("rows", "features"), [(40, 6), (25, 40)])
def test_logme_is_the_maximum_of_the_evidence(rows: int, features: int) -> None:
    given, targets = blobs(rows, features, 3, apart=1.0)
    assert logme(given, targets) == pytest.approx(reference_logme(given, targets), abs=2e-5)  # Nelder-Mead's tolerance


@pytest.mark.parametrize(("rows", "features"), [(60, 8), (200, 5)])
def test_logme_is_the_fixed_point_of_the_paper(rows: int, features: int) -> None:
    given, targets = blobs(rows, features, 4, apart=1.0, seed=1)
    assert logme(given, targets) == pytest.approx(paper_logme(given, targets), abs=1e-6)


def test_logme_is_higher_where_classes_lie_apart_and_does_not_see_the_scale() -> None:
    near, targets = blobs(200, 10, 3, apart=0.1)
    far, same = blobs(200, 10, 3, apart=1.0)
    assert (targets == same).all()
    assert logme(far, targets) > logme(near, targets) + 0.05
    assert logme(1000 * far, targets) == pytest.approx(logme(far, targets), abs=1e-5)


def test_logme_of_several_labels_is_the_mean_over_their_columns() -> None:
    given, targets = blobs(80, 6, 3, apart=1.0)
    table = np.eye(3)[targets]
    assert logme(given, table) == pytest.approx(logme(given, targets), abs=1e-9)
    table[:, 1] = 0  # never there: nothing to explain
    two = [logme(given, np.stack([table[:, i], 1 - table[:, i]], axis=1)) for i in (0, 2)]
    assert logme(given, table) != pytest.approx(np.mean(two), abs=1e-6)  # 1 - y is another column than y
    assert np.isnan(logme(given, np.zeros((80, 2))))


def test_h_score_is_the_trace_as_it_is_defined() -> None:
    given, targets = blobs(300, 5, 3, apart=1.0)
    means = np.stack([given[targets == each].mean(axis=0) for each in targets])
    direct = np.trace(np.linalg.inv(np.cov(given.T, bias=True)) @ np.cov(means.T, bias=True))
    assert h_score(given, targets) == pytest.approx(direct, rel=1e-9)


def test_h_score_of_classes_that_do_not_overlap_is_their_number_less_one() -> None:
    corners = np.eye(4)[:, :3]
    targets = np.repeat(np.arange(4), 10)
    noise = np.random.default_rng(0).normal(size=(40, 3)) * 1e-6
    assert h_score(corners[targets] + noise, targets) == pytest.approx(3, abs=1e-3)


def test_a_shrunk_h_score_still_tells_noise_from_classes_with_few_examples() -> None:
    noise, targets = blobs(30, 100, 3, apart=0.0)
    real, _ = blobs(30, 100, 3, apart=1.0)
    assert h_score(noise, targets) == pytest.approx(2, abs=1e-6)  # the plain one takes noise for perfect
    assert h_score(noise, targets, shrunk=True) < 0.7 < h_score(real, targets, shrunk=True)


def test_the_shrunk_h_score_follows_its_definition() -> None:
    from sklearn.covariance import LedoitWolf

    given, targets = blobs(60, 8, 3, apart=1.0)
    fitted = LedoitWolf().fit(given)
    means = np.stack([given[targets == each].mean(axis=0) for each in targets])
    direct = np.trace(np.linalg.inv(fitted.covariance_) @ np.cov(means.T, bias=True)) * (1 - fitted.shrinkage_)
    assert h_score(given, targets, shrunk=True) == pytest.approx(direct, rel=1e-9)


def test_the_probe_equals_a_regression_fitted_by_hand_on_the_other_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.metrics import transfer

    monkeypatch.setattr(transfer, "PENALTIES", (0.3,))
    given, targets = blobs(60, 4, 3, apart=1.0)
    logits = linear_probe(given, targets, 3)
    answered = transfer._parts(targets, 3, 0)[0]
    others = np.setdiff1d(np.arange(60), answered)
    scaled = (given - given[others].mean(axis=0)) / given[others].std(axis=0)
    plain = LogisticRegression(C=0.3, max_iter=300, tol=1e-8).fit(scaled[others], targets[others])
    assert logits[answered] == pytest.approx(plain.predict_log_proba(scaled[answered]), abs=2e-2)  # its tolerance


def test_the_probe_is_at_chance_on_noise_and_right_on_classes_apart() -> None:
    noise, targets = blobs(300, 20, 3, apart=0.0)
    apart, _ = blobs(300, 20, 3, apart=2.0)
    assert (linear_probe(noise, targets, 3).argmax(axis=1) == targets).mean() < 0.45
    assert (linear_probe(apart, targets, 3).argmax(axis=1) == targets).mean() > 0.97


def test_a_class_of_one_example_and_a_class_without_any_are_survived() -> None:
    given, targets = blobs(40, 5, 2, apart=2.0)
    targets[0] = 2
    logits = linear_probe(given, targets, 4)
    assert np.isfinite(logits).all()
    assert (logits[:, 3] == FLOOR).all()
    assert logits[0].argmax() != 2  # never learned from the row that is answered


def test_a_probe_of_several_labels_answers_each_by_itself() -> None:
    given, targets = blobs(120, 6, 3, apart=2.0)
    table = np.eye(4)[targets]
    table[:, 2] = table[:, 0]
    logits = linear_probe(given, table, 4)
    assert logits.shape == (120, 4)
    assert ((logits > 0) == (table > 0.5)).mean() > 0.9
    assert (logits[:, 3] < 0).all()


def test_the_parts_are_disjoint_whole_and_alike_in_classes() -> None:
    from tunesmith.metrics.transfer import _parts

    targets = np.random.default_rng(0).integers(0, 3, 100)
    parts = _parts(targets, 3, 5)
    assert sorted(np.concatenate(parts).tolist()) == list(range(100))
    counts = np.array([np.bincount(targets[part], minlength=3) for part in parts])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()


def test_fewer_rows_than_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 examples"):
        linear_probe(np.zeros((2, 3)), np.array([0, 1]), 2)

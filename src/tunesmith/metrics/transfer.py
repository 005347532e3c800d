"""How well a pretrained model's features serve labels that it has never seen: LogME, H-score, and a linear probe.

All take features [examples, features] of an untouched model, computed once, and targets: class indices [examples], or
0/1 [examples, classes] where an example may have several. The probe measures what a head alone could reach, in the
unit of the task's own score. The other two are read off the features without fitting a classifier: cheap, and only
good for a comparison on the same examples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

FOLDS = 3
PENALTIES = (0.003, 0.03, 0.3, 3.0)
"""Inverse strengths of the probe's L2 penalty, on standardised features; one is chosen inside each training fold."""

TOLERANCE = 1e-3
"""Of the gradient of the mean loss: answers no longer change, at a third of the steps of scikit-learn's 1e-4."""

FLOOR = -20.0
"""Log-probability of a class that a fold has not seen: small, and still finite."""

Logits = Callable[[np.ndarray], np.ndarray]


def logme(features: np.ndarray, targets: np.ndarray) -> float:
    """Log of the maximum evidence a row (You et al. 2021, arXiv:2102.11005, eq. 2 and algorithm 1); higher is better.

    For each class's 0/1 column y, with w ~ N(0, 1/a) and y ~ N(F w, 1/b), the evidence

        log p(y) = log N(y; 0, I/b + F F'/a)

    is maximised over a and b, divided by the number of examples, and averaged over classes. The paper iterates a fixed
    point in a and b; here b follows from t = a/b in closed form, and t is searched on a line, which finds the same
    maximum without a start that it could hang on. One singular value decomposition serves all classes.
    Columns without both values are left out; NaN if none is left.
    """
    rows = np.asarray(features, np.float64)
    left, singular, _ = np.linalg.svd(rows, full_matrices=False)
    columns = [y for y in _columns(targets).T if 0 < y.sum() < len(y)]
    found = [_evidence(left.T @ y, float(y @ y), singular**2, len(y)) for y in columns]
    return float(np.mean(found)) if found else float("nan")


def _evidence(projected: np.ndarray, energy: float, squared: np.ndarray, rows: int) -> float:
    """Highest log evidence a row. projected: U' y [rank]; energy: y' y; squared: singular values squared [rank].

    With C = I + F F'/t: b = n / (y' C^-1 y), and log p = n/2 log b - n/2 log 2 pi - n/2 - 1/2 log |C|.
    """
    from scipy.optimize import minimize_scalar

    outside = max(energy - float(projected @ projected), 0.0)

    def minus(log_t: float) -> float:
        ratio = squared * np.exp(-log_t)
        residual = max(float((projected**2 / (1 + ratio)).sum()) + outside, 1e-12 * energy)
        noise = np.log(rows / residual) - np.log(2 * np.pi) - 1
        return -float(rows / 2 * noise - np.log1p(ratio).sum() / 2) / rows

    scale = np.log(max(float(squared.max(initial=0.0)), 1e-300))
    grid = np.linspace(scale - 30, scale + 10, 81)
    best = grid[int(np.argmin([minus(each) for each in grid]))]
    refined = minimize_scalar(minus, bounds=(best - 0.5, best + 0.5), method="bounded", options={"xatol": 1e-6})
    return -min(float(refined.fun), minus(best))


def h_score(features: np.ndarray, targets: np.ndarray, *, shrunk: bool = False) -> float:
    """tr(cov(f)^-1 cov(E[f|y])) (Bao et al. 2019, doi:10.1109/ICIP.2019.8803726), between 0 and classes - 1; higher is
    better.

    With fewer than several examples a feature the covariance is guessed badly and every model seems perfect. shrunk:
    the covariance of Ledoit and Wolf (2004) with its shrinkage s, and the score times 1 - s (Ibrahim et al. 2021,
    arXiv:2110.06893), which stands also there. NaN for examples with several classes, where E[f|y] has no one meaning.
    """
    from sklearn.covariance import ledoit_wolf

    if targets.ndim == 2:
        return float("nan")
    rows = np.asarray(features, np.float64)
    rows = rows - rows.mean(axis=0)
    means = np.zeros_like(rows)
    for each in np.unique(targets):
        means[targets == each] = rows[targets == each].mean(axis=0)
    between = means.T @ means / len(rows)
    if shrunk:
        covariance, shrinkage = ledoit_wolf(rows, assume_centered=True)
        return float(np.trace(np.linalg.solve(covariance, between)) * (1 - shrinkage))
    return float(np.trace(np.linalg.pinv(rows.T @ rows / len(rows), rcond=1e-10, hermitian=True) @ between))


def linear_probe(
    features: np.ndarray, targets: np.ndarray, classes: int, *, folds: int = FOLDS, seed: int = 0
) -> np.ndarray:
    """Logits [examples, classes] of a logistic regression on standardised features, each from a fit without that row.

    Cross-validated in `folds` stratified parts; the L2 penalty is chosen in each on a fifth of its training rows, never
    on the rows that are answered. Several classes an example: one binary regression a class, logits of each.
    ValueError with fewer rows than folds.
    """
    from threadpoolctl import threadpool_limits

    rows = np.asarray(features, np.float64)
    if len(rows) < folds:
        raise ValueError(f"{len(rows)} examples cannot be divided into {folds} parts")
    logits = np.full((len(rows), classes), FLOOR)
    # Thousands of products of small matrices: two threads that wait for each other took 25 times the time of one
    # (400 x 384, 13 classes, a busy machine).
    with threadpool_limits(1):
        for answered in _parts(targets, folds, seed):
            train = np.setdiff1d(np.arange(len(rows)), answered)
            spread = rows[train].std(axis=0)
            scaled = (rows - rows[train].mean(axis=0)) / np.where(spread > 1e-8, spread, 1.0)
            penalty = _penalty(scaled[train], targets[train], classes, seed)
            logits[answered] = _fit(scaled[train], targets[train], classes, penalty)(scaled[answered])
    return logits


def _penalty(rows: np.ndarray, targets: np.ndarray, classes: int, seed: int) -> float:
    """The inverse strength with the lowest log loss on a fifth of these rows."""
    from tunesmith.metrics.classification import negative_log_likelihood

    if len(rows) < 10:
        return PENALTIES[1]
    held = _parts(targets, 5, seed + 1)[0]
    kept = np.setdiff1d(np.arange(len(rows)), held)
    losses = [
        negative_log_likelihood(_fit(rows[kept], targets[kept], classes, each)(rows[held]), targets[held])
        for each in PENALTIES
    ]
    return PENALTIES[int(np.argmin(losses))]


def _fit(rows: np.ndarray, targets: np.ndarray, classes: int, penalty: float) -> Logits:
    from sklearn.linear_model import LogisticRegression

    def regression(wanted: np.ndarray) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that stops at max_iter is compared all the same
            return LogisticRegression(C=penalty, max_iter=300, tol=TOLERANCE).fit(rows, wanted)

    if targets.ndim == 1:
        if len(seen := np.unique(targets)) < 2:
            return lambda given: np.where(np.arange(classes) == seen[0], 0.0, FLOOR) * np.ones((len(given), 1))
        one = regression(targets)

        def of_one(given: np.ndarray) -> np.ndarray:
            found = np.full((len(given), classes), FLOOR)
            found[:, one.classes_] = np.maximum(one.predict_log_proba(given), FLOOR)
            return found

        return of_one
    models = [regression(column) if 0 < column.sum() < len(column) else float(column[0]) for column in targets.T]

    def of_several(given: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                np.full(len(given), FLOOR if m == 0 else -FLOOR) if isinstance(m, float) else m.decision_function(given)
                for m in models
            ],
            axis=1,
        )

    return of_several


def _parts(targets: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """Row numbers of each part; every class is spread over the parts as evenly as it goes.

    Rows with several classes go by their rarest one.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    if targets.ndim == 2:
        rarity = np.where(targets > 0.5, targets.sum(axis=0), np.inf)
        targets = np.where((targets > 0.5).any(axis=1), rarity.argmin(axis=1), -1)
    order = generator.permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    return [np.sort(order[part::folds]) for part in range(folds)]


def _columns(targets: np.ndarray) -> np.ndarray:
    """Targets as 0/1 [examples, classes], float64."""
    if targets.ndim == 2:
        return np.asarray(targets, np.float64)
    return np.asarray(targets[:, None] == np.unique(targets)[None, :], np.float64)

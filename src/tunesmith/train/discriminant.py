"""A linear head in closed form: the discriminant of its features, where a head can start instead of at random values.

With class means m_k and the covariance S that the classes have in common, log p(k | x) is w_k (x - m) + b_k and a
constant, w_k = inverse(S) (m_k - m), b_k = log p_k - w_k (m_k - m) / 2 (Fisher 1936; Hastie, Tibshirani and Friedman
2009, section 4.3). S is drawn towards a multiple of the identity by Ledoit and Wolf's rule (2004, A well-conditioned
estimator for large-dimensional covariance matrices), or it would have no inverse where examples are fewer than
features. What is estimated from the examples it then answers is too sure of itself, so the answers are multiplied by
the factor at which examples that were held out are most likely.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.train.frozen import entering
from tunesmith.types import Batch, PictureForm, Pretrained

MOST_CLASSES = 1_000
WIDEST = 4_096  # the time grows with the third power
FOLDS = 5
FACTORS = tuple(10 ** (n / 16) for n in range(-48, 1))  # 0.001 to 1


def cannot_start(pretrained: Pretrained, class_counts: Mapping[str, int], *, multi_label: bool) -> str:
    """Why the head cannot start from the discriminant of its features; empty where it can. class_counts: of training.

    The model answers one grey picture for it.
    """
    form, anatomy = pretrained.processor, pretrained.anatomy
    head = pretrained.model.get_submodule(anatomy.head[0]) if len(anatomy.head) == 1 else nn.Identity()
    linear = linear_of(head)
    if not isinstance(form, PictureForm) or linear is None:
        return "that needs a picture classifier whose head is one linear layer"
    if multi_label:
        return "an example has several labels here"
    if anatomy.classifier != anatomy.head:
        return "the head knows every label of this data already"
    few = [label for label, count in class_counts.items() if count < 2]
    if few:
        return f'"{few[0]}" has fewer than 2 training examples'
    if len(class_counts) > MOST_CLASSES or linear.in_features > WIDEST:
        return f"more than {MOST_CLASSES:,} classes or {WIDEST:,} features would take too long"
    picture = Batch({"pixels": torch.zeros(1, 3, form.height, form.width)}, None, (0,))
    modes = [(module, module.training) for module in pretrained.model.modules()]
    found = entering(pretrained.model, head, picture)
    for module, training in modes:
        module.training = training
    fits = found is not None and found[0].flatten(1).shape == (1, linear.in_features)
    return "" if fits else "the head does not run once on one vector a picture"


def linear_of(head: nn.Module) -> nn.Linear | None:
    """The linear layer with offsets that is all of a head but for flattening and dropout; None where there is more."""
    layers = list(head.children()) if isinstance(head, nn.Sequential) else [head]
    plain = (nn.Flatten, nn.Dropout, nn.Identity)
    if not layers or not isinstance(layers[-1], nn.Linear) or not all(isinstance(one, plain) for one in layers[:-1]):
        return None
    return layers[-1] if layers[-1].bias is not None else None


def discriminant(features: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> tuple[Tensor, Tensor] | None:
    """Weights [classes, width] and offsets [classes], float32; the same for the same features.

    features: [examples, width]; targets: classes [examples], each at least twice; counts: how often each class is to be
    expected, [classes] in any unit. None where the features do not differ within the classes, or are not finite.
    """
    x = torch.from_numpy(np.asarray(features)).double()
    y = torch.from_numpy(np.asarray(targets)).long()
    classes = len(counts)
    if not bool(torch.isfinite(x).all()):
        return None
    middle = x.mean(0)
    x = x - middle
    share = _shrinkage(x, y, classes)
    if share is None:
        return None
    weights, offsets = _fitted(x, y, classes, share)
    factor = _factor(x, y, classes, share)
    expected = torch.from_numpy(np.asarray(counts)).double()
    shares = (expected / expected.sum()).clamp_min(1e-6)  # a class whose weight is 0 is no reason for infinity
    weights, offsets = weights * factor, offsets * factor + shares.log()
    return weights.float(), (offsets - weights @ middle).float()


def _shrinkage(x: Tensor, y: Tensor, classes: int) -> float | None:
    """Ledoit and Wolf's share of the identity in the covariance inside the classes. scikit-learn has it too, but takes
    half a second to import, which is longer than a head learns; the tests hold the one to the other."""
    left = x - _means(x, y, classes)[y]
    squares = left.square().sum(1)
    if float(squares.mean()) <= 1e-12 * float(x.square().sum(1).mean()):
        return None
    count, width = left.shape
    size = float(squares.mean()) / width
    norm = float((left.T @ left).square().sum()) / count**2
    error = (float(squares.square().sum()) / count - norm) / (width * count)
    distance = norm / width - size**2
    return min(error, distance) / distance if distance > 0 else 0.0


def _means(x: Tensor, y: Tensor, classes: int) -> Tensor:
    sums = torch.zeros(classes, x.shape[1], dtype=x.dtype).index_add_(0, y, x)
    return sums / torch.bincount(y, minlength=classes)[:, None].clamp_min(1)


def _fitted(x: Tensor, y: Tensor, classes: int, share: float) -> tuple[Tensor, Tensor]:
    means = _means(x, y, classes)
    left = x - means[y]
    common = left.T @ left / len(x)
    size = common.diagonal().mean()
    common.mul_(1 - share).diagonal().add_(share * size + 1e-9 * size)
    weights = torch.cholesky_solve(means.T, torch.linalg.cholesky(common)).T
    return weights, -(weights * means).sum(1) / 2


def _factor(x: Tensor, y: Tensor, classes: int, share: float) -> float:
    """The factor of the answers at which held-out examples are most likely; each is held out once."""
    prior = torch.bincount(y, minlength=classes).double().div(len(y)).log()
    fold = torch.empty_like(y)
    for k in range(classes):
        own = (y == k).nonzero()[:, 0]
        fold[own] = torch.arange(len(own)) % FOLDS
    answers = torch.empty(len(x), classes, dtype=x.dtype)
    for held in range(FOLDS):
        out = fold == held
        if bool(out.any()):
            weights, offsets = _fitted(x[~out], y[~out], classes, share)
            answers[out] = x[out] @ weights.T + offsets
    losses = [float(torch.nn.functional.cross_entropy(f * answers + prior, y)) for f in FACTORS]
    return FACTORS[int(np.argmin(losses))]

"""A linear head in closed form: the discriminant of its features, where a head can start instead of at random values.

With class means m_k and the covariance S that the classes have in common, log p(k | x) is w_k (x - m) + b_k and a
constant, w_k = inverse(S) (m_k - m), b_k = log p_k - w_k (m_k - m) / 2 (Fisher 1936; Hastie, Tibshirani and Friedman
2009, section 4.3). S is drawn towards a multiple of the identity, or it would have no inverse where examples are fewer
than features: by Ledoit and Wolf's rule (2004, A well-conditioned estimator for large-dimensional covariance matrices),
and further where that makes held-out examples more likely (Friedman 1989, Regularized Discriminant Analysis).

What is estimated from the examples that it then answers is too sure of itself, so the answers are multiplied by the
factor at which held-out examples are most likely. Where examples are so few that the covariance had to be drawn
further, such a head knows its own examples by heart, and what learns beside it would have no more to learn from them:
then it is no surer of its own examples than of held-out ones, unless it learns alone.

Where all held-out examples are answered rightly no factor would be too large,
so each may be of another class by the chance that Jeffreys' rule gives to what was never seen, half in one more than
there are.
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
SHARES = (0.5, 0.7, 0.85, 0.95)  # of the identity, beside Ledoit and Wolf's own
FACTORS = tuple(10 ** (n / 16) for n in range(-48, 1))  # 0.001 to 1


def cannot_start(pretrained: Pretrained, class_counts: Mapping[str, int], *, multi_label: bool) -> str:
    """Why the head cannot start from the discriminant of its features; empty where it can. class_counts: of training,
    of each class that the head answers.

    The model answers one grey picture for it.
    """
    form, anatomy = pretrained.processor, pretrained.anatomy
    head = pretrained.model.get_submodule(anatomy.head[0]) if len(anatomy.head) == 1 else nn.Identity()
    linear = _linear_of(head)
    if not isinstance(form, PictureForm) or linear is None:
        return "that needs a picture classifier whose head is one linear layer"
    if multi_label:
        return "an example has several labels here"
    if 2 * len(pretrained.known) > len(class_counts) or anatomy.classifier != anatomy.head:
        return "the head knows most labels of this data already, and keeps their rows"
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


def _linear_of(head: nn.Module) -> nn.Linear | None:
    """The linear layer with offsets that is all of a head but for flattening and dropout; None where there is more."""
    layers = list(head.children()) if isinstance(head, nn.Sequential) else [head]
    plain = (nn.Flatten, nn.Dropout, nn.Identity)
    if not layers or not isinstance(layers[-1], nn.Linear) or not all(isinstance(one, plain) for one in layers[:-1]):
        return None
    return layers[-1] if layers[-1].bias is not None else None


def learning_layer(head: nn.Module) -> nn.Linear:
    """The linear layer of such a head that learns; a method may have put a copy beside the layer itself."""
    (found,) = (m for m in head.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad)
    return found


def discriminant(
    features: np.ndarray, targets: np.ndarray, counts: np.ndarray, *, alone: bool
) -> tuple[Tensor, Tensor] | None:
    """Weights [classes, width] and offsets [classes], float32; the same for the same features.

    features: [examples, width]; targets: classes [examples], each at least twice; counts: how often each class is to be
    expected, [classes] in any unit; alone: whether nothing but the head learns. None where the features do not differ
    within the classes, or are not finite.
    """
    x = torch.from_numpy(np.asarray(features)).double()
    y = torch.from_numpy(np.asarray(targets)).long()
    classes = len(counts)
    if not bool(torch.isfinite(x).all()):
        return None
    middle = x.mean(0)
    x = x - middle
    least = _shrinkage(x, y, classes)
    if least is None:
        return None
    loss, factor, share = (*_held_out(x, y, classes, least), least)
    few = len(x) < 2 * x.shape[1]
    for more in (s for s in SHARES if few and s > least):
        further, its_factor = _held_out(x, y, classes, more)
        if further >= loss:
            break
        loss, factor, share = further, its_factor, more
    weights, offsets = _fitted(x, y, classes, share)
    if share != least and not alone:
        factor = _tempered(x @ weights.T + offsets, y, loss, factor)
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
    count, width = left.shape
    # Where examples of a class are all alike, or one alone is left of it, nothing else would stand in its way.
    size = max(float(left.square().mean()), 1e-6 * float(x.square().mean()))
    floor, scale = (share + 1e-9) * size, (1 - share) / count  # S = scale left'left + floor identity
    if count < width and scale > 0:  # the same inverse by one as large as the examples are many (Woodbury)
        inner = left @ left.T
        inner.diagonal().add_(floor / scale)
        weights = (means - torch.cholesky_solve(left @ means.T, torch.linalg.cholesky(inner)).T @ left) / floor
    else:
        common = scale * (left.T @ left)
        common.diagonal().add_(floor)
        weights = torch.cholesky_solve(means.T, torch.linalg.cholesky(common)).T
    return weights, -(weights * means).sum(1) / 2


def _tempered(answers: Tensor, y: Tensor, loss: float, most: float) -> float:
    """The factor, up to `most`, at which the examples' own loss is nearest to that of held-out ones."""
    prior = torch.bincount(y, minlength=answers.shape[1]).double().div(len(y)).log()
    tried = [factor for factor in FACTORS if factor <= most]
    own = [abs(float(torch.nn.functional.cross_entropy(f * answers + prior, y)) - loss) for f in tried]
    return tried[int(np.argmin(own))]


def _held_out(x: Tensor, y: Tensor, classes: int, share: float) -> tuple[float, float]:
    """Negative log-likelihood of examples that are held out, each once and each with its doubt, and the factor of the
    answers that makes it least."""
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
    doubt = 0.5 / (len(y) + 1)
    losses = [float(torch.nn.functional.cross_entropy(f * answers + prior, y, label_smoothing=doubt)) for f in FACTORS]
    best = int(np.argmin(losses))
    return losses[best], FACTORS[best]

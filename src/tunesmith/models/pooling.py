"""How a text model turns its token states into one vector: by the model's card, by a probe, or by fitting a pooler."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tunesmith.types import Batch, Pretrained

PROBED = 300
"""Examples that the probe looks at."""

FITTED = 256
FITTED_AT_ONCE = 32
"""Training texts that a pooler is fitted on or a probe looks at, and how many pass the model together."""

RIDGE = 0.2
"""Penalty of `fit_pooler` against the mean sum of squares of a first-token feature (0.03 to 0.3 were equal)."""

_logger = logging.getLogger(__name__)


def card_pooling(folder: Path) -> Literal["cls", "mean", "max"] | None:
    """The pooling that a sentence-transformers model or a finished classifier was trained with; None if its card does
    not say one of these.

    Read from the pooling module's config.json, whose folder `modules.json` names (`1_Pooling` without it). A classifier
    without one says it in its own config, where its kind of model can choose (ModernBERT); a backbone's config only
    holds the library's default there.
    """
    own = _read(folder / "config.json")
    if isinstance(own, dict) and any("ForSequenceClass" in str(name) for name in own.get("architectures") or ()):
        said = own.get("classifier_pooling")
        if said in ("cls", "mean"):
            return "cls" if said == "cls" else "mean"
    config = _read(folder / _pooling_folder(folder) / "config.json")
    if not isinstance(config, dict):
        return None
    named = config.get("pooling_mode")
    modes = {named} if isinstance(named, str) else set()
    modes |= {key.removeprefix("pooling_mode_") for key, on in config.items() if "pooling_mode_" in key and on is True}
    match sorted(modes):
        case ["cls"] | ["cls_token"]:
            return "cls"
        case ["mean"] | ["mean_tokens"]:
            return "mean"
        case ["max"] | ["max_tokens"]:
            return "max"
        case _:  # several side by side, or one that no plain classifier has (weighted mean, last token)
            return None


def probe_pooling(states_cls: np.ndarray, states_mean: np.ndarray, targets: np.ndarray) -> Literal["cls", "mean"]:
    """Which of two poolings of the untouched model tells the classes apart better.

    states_cls, states_mean: [examples, hidden]; targets: class indices [examples], or 0/1 [examples, classes] for
    multi-label. A logistic regression on standardised features is cross-validated on at most 300 examples, always the
    same ones, and the lower log loss wins: it still tells two apart that are both always right. Without two classes of
    at least two examples each there is nothing to measure, and the answer is "mean", which uses every token.
    """
    if targets.ndim == 2:
        # The most even class stands for all: one binary probe in place of one a class.
        targets = targets[:, int(np.argmin(np.abs(targets.mean(axis=0) - 0.5)))]
    classes, sizes = np.unique(targets, return_counts=True)
    kept = np.flatnonzero(np.isin(targets, classes[sizes >= 2]))
    kept = np.random.default_rng(0).permutation(kept)[:PROBED]
    classes, sizes = np.unique(targets[kept], return_counts=True)
    kept = kept[np.isin(targets[kept], classes[sizes >= 2])]
    if len(np.unique(targets[kept])) < 2:
        return "mean"
    losses = {"mean": _log_loss(states_mean[kept], targets[kept]), "cls": _log_loss(states_cls[kept], targets[kept])}
    return "cls" if losses["cls"] < losses["mean"] else "mean"


def fit_pooler(states_cls: Tensor, states_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Weight [hidden, hidden] and bias [hidden] of a pooler, tanh(W h + b), that stands in for mean pooling.

    states_cls, states_mean: [texts, hidden], the last layer's first token and mean over tokens, of unlabelled training
    texts (256 are enough). A plain BERT classifier can read only the first token; for a model trained with mean pooling
    its shipped pooler is noise. W and b are the ridge regression from the first token's state to the mean vector,
    centred and scaled to standard deviation 1 so that tanh bends but does not clip it:

        W = T' X (X' X + c I)^-1,   b = -W mean(h),   X = h - mean(h),   T = (m - mean(m)) / std(m),
        c = 0.2 trace(X' X) / hidden

    with one std over all features, which keeps their proportions (Hoerl and Kennard 1970, 10.2307/1267351, for the
    ridge). Solved in float64; results have the type of `states_cls`. ValueError with fewer than two texts.
    """
    import torch

    if len(states_cls) < 2 or states_cls.shape != states_mean.shape:
        raise ValueError(f"two or more texts needed, with equal shapes: {states_cls.shape}, {states_mean.shape}")
    states, means = states_cls.detach().double(), states_mean.detach().double()
    centre = states.mean(dim=0)
    x, target = states - centre, means - means.mean(dim=0)
    target = target / target.std().clamp_min(1e-12)
    gram = x.T @ x
    penalty = (RIDGE * gram.diagonal().mean()).clamp_min(1e-12)
    weight = torch.linalg.solve(
        gram + penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), x.T @ target
    )
    return weight.T.contiguous().to(states_cls.dtype), (-(weight.T @ centre)).to(states_cls.dtype)


def first_token_pooler(pretrained: Pretrained) -> nn.Linear | None:
    """The square linear layer of a head part that maps the first token's state (BERT's pooler); None without one."""
    from torch import nn

    for name in pretrained.anatomy.head:
        if name in pretrained.anatomy.classifier:
            continue
        inner = [m for m in pretrained.model.get_submodule(name).modules() if isinstance(m, nn.Linear)]
        if len(inner) == 1 and inner[0].in_features == inner[0].out_features == pretrained.anatomy.hidden_size:
            return inner[0]
    return None


def token_states(pretrained: Pretrained, batch: Batch) -> tuple[Tensor, Tensor]:
    """The last layer's first token and its mean over tokens, each [examples, hidden], of the untouched backbone."""
    import torch

    whole: Any = pretrained.model.eval()
    backbone = getattr(whole, whole.base_model_prefix)
    device = next(whole.parameters()).device
    firsts, means = [], []
    with torch.inference_mode():
        for start in range(0, len(batch), FITTED_AT_ONCE):
            inputs = {name: t[start : start + FITTED_AT_ONCE].to(device) for name, t in batch.inputs.items()}
            hidden = backbone(**inputs)[0]
            mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            firsts.append(hidden[:, 0])
            means.append((hidden * mask).sum(1) / mask.sum(1))
    return torch.cat(firsts), torch.cat(means)


def start_pooler(pretrained: Pretrained, pooler: nn.Linear, batch: Batch) -> None:
    """Set the pooler's weights, in place, to those that `fit_pooler` finds on the batch's texts."""
    import torch

    weight, bias = fit_pooler(*token_states(pretrained, batch))
    with torch.no_grad():
        pooler.weight.copy_(weight)
        pooler.bias.copy_(bias)


def _pooling_folder(folder: Path) -> str:
    modules = _read(folder / "modules.json")
    for module in modules if isinstance(modules, list) else ():
        if isinstance(module, dict) and str(module.get("type", "")).endswith("Pooling"):
            path = str(module.get("path", ""))
            return path if path and Path(path).name == path else "1_Pooling"
    return "1_Pooling"


def _read(path: Path) -> Any:
    """A JSON file that may be missing. One that is broken is logged and passed over: it only advises."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        _logger.warning("%s is not JSON (%s); the model's pooling is taken as unknown.", path, error)
        return None


def _log_loss(features: np.ndarray, targets: np.ndarray) -> float:
    """Cross-validated log loss of a logistic regression, two to five folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    smallest = int(np.unique(targets, return_counts=True)[1].min())
    folds = StratifiedKFold(n_splits=max(2, min(5, smallest)), shuffle=True, random_state=0)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return -float(np.mean(cross_val_score(probe, features, targets, cv=folds, scoring="neg_log_loss")))

"""The losses of preference tuning, as functions of log-probabilities alone; every value is a tensor over examples.

`ratio` is what training has added to an answer's log-probability: log pi(y|x) - log reference(y|x), summed over the
answer's tokens. `mean` is log pi(y|x) a token. An implied `reward` is what a loss compares: see `rewards`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

LossName = Literal["dpo", "ipo", "orpo", "simpo", "kto"]
CHOSEN, REJECTED, MISMATCHED = 0, 1, 2
"""Columns of the tables: the preferred (or liked) answer, the other (or disliked) one, and another prompt's answer."""
COLUMNS = 3
WITHOUT_REFERENCE = ("orpo", "simpo")
"""Losses that ask nothing of the untouched model."""

_BETAS = {
    "dpo": (0.1, "Rafailov et al. 2023"),
    "ipo": (0.1, "TRL's default"),
    "orpo": (0.1, "Hong et al. 2024, their lambda"),
    "simpo": (2.0, "Meng et al. 2024"),
    "kto": (0.1, "Ethayarajh et al. 2024"),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a loss is made of: the options of the task, without any `auto`."""

    objective: LossName
    beta: float
    gamma: float = 0.0
    label_smoothing: float = 0.0
    sft_weight: float = 0.0
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


def settled(
    objective: LossName, beta: float | str, gamma: float | str, sft_weight: float | str
) -> dict[str, tuple[float, str]]:
    """Value and origin of each that is `auto`."""
    found: dict[str, tuple[float, str]] = {}
    if isinstance(beta, str):
        beta, source = _BETAS[objective]
        found["beta"] = (beta, f"{objective}: {source}")
    none = (0.0, f"none in {objective}")
    if gamma == "auto":
        found["gamma"] = (beta / 2, "half of beta: Meng et al. 2024") if objective == "simpo" else none
    if sft_weight == "auto":
        found["sft_weight"] = (1.0, "orpo's own first term") if objective == "orpo" else none
    return found


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of the answers of some examples, each table [examples, 3] with the columns above.

    logps: summed log-probabilities in nats. tokens: how many tokens each has, 0 where there is no such answer.
    references: what the untouched model gave for `logps`; not looked at by a loss without a reference.
    """

    logps: Tensor
    tokens: Tensor
    references: Tensor

    @property
    def there(self) -> Tensor:
        """Whether there is such an answer, bool [examples, 3]."""
        return self.tokens > 0

    @property
    def means(self) -> Tensor:
        """Log-probability a token, [examples, 3]; 0 where there is no such answer."""
        return self.logps / self.tokens.clamp_min(1)

    @property
    def ratios(self) -> Tensor:
        """Log-probability gained over the untouched model, [examples, 3]; 0 where there is no such answer."""
        return (self.logps - self.references).where(self.there, self.logps.new_zeros(()))


def rewards(answers: Answers, terms: Terms) -> Tensor:
    """The implied rewards of the chosen and the rejected answer, [examples, 2].

    dpo and kto: beta x ratio (Rafailov et al. 2023, equation 5, without the term that depends on the prompt alone).
    ipo: beta x ratio a token. orpo and simpo: beta x mean.
    """
    pair = slice(CHOSEN, REJECTED + 1)
    if terms.objective in WITHOUT_REFERENCE:
        return terms.beta * answers.means[:, pair]
    ratios = answers.ratios[:, pair]
    if terms.objective == "ipo":
        ratios = ratios / answers.tokens[:, pair].clamp_min(1)
    return terms.beta * ratios


def dpo(margin: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(margin) of the rewards' difference (Rafailov et al. 2023, arXiv 2305.18290, equation 7).

    label_smoothing: the share of pairs thought to be the wrong way round (conservative DPO, Mitchell 2023).
    """
    from torch.nn.functional import logsigmoid

    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def ipo(margin: Tensor, *, beta: float) -> Tensor:
    """(difference of ratios - 1 / (2 beta))^2 (Azar et al. 2023, arXiv 2310.12036, equation 17, whose tau is beta).

    margin: beta x the difference of the ratios a token. The paper writes sums; its authors confirmed to the makers of
    TRL that the mean is meant, so that the goal does not depend on the length.
    """
    return (margin / beta - 1 / (2 * beta)) ** 2


def simpo(margin: Tensor, *, gamma: float) -> Tensor:
    """-log sigmoid(beta x difference of means - gamma) (Meng et al. 2024, arXiv 2405.14734, equation 6)."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(margin - gamma)


def orpo(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log sigmoid(log odds(chosen) - log odds(rejected)), odds(p) = p / (1 - p), p = exp(mean): what beta weighs
    (Hong et al. 2024, arXiv 2403.07691, equations 4 and 7)."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid((chosen - rejected) - (_log_rest(chosen) - _log_rest(rejected)))


def _log_rest(mean: Tensor) -> Tensor:
    """log(1 - exp(mean)) for mean < 0, in the form that keeps its digits (Maechler 2012); a mean of 0, all but certain,
    is taken as the nearest number that has odds."""
    import torch

    mean = mean.clamp_max(-1e-6)
    return torch.where(mean > -0.6931472, (-torch.expm1(mean)).log(), torch.log1p(-mean.exp()))


def kto(reward: Tensor, *, liked: bool, point: Tensor) -> Tensor:
    """1 - sigmoid(reward - point) of a liked answer, 1 - sigmoid(point - reward) of a disliked one (Ethayarajh et al.
    2024, arXiv 2402.01306, section 4.1). point: beta x `reference_point`, no gradient."""
    return 1 - (reward - point if liked else point - reward).sigmoid()


def drift(answers: Answers) -> Tensor:
    """What `reference_point` is made of, [2]: the sum of ratios of other prompts' answers, and their number."""
    import torch

    ratios = answers.ratios[:, MISMATCHED]
    return torch.stack([ratios.double().sum(), answers.there[:, MISMATCHED].double().sum()])


def reference_point(drift: Tensor) -> Tensor:
    """KTO's z0 in nats, a scalar: how far the model has moved from the untouched one, KL(pi || reference), estimated as
    the mean ratio of answers that belong to other prompts, at least 0 (the same section)."""
    return (drift[0] / drift[1].clamp_min(1)).clamp_min(0)


def losses(answers: Answers, terms: Terms, point: Tensor) -> tuple[Tensor, Tensor]:
    """Each example's summed loss and over how many answers it runs, both [examples].

    A pair counts once; for kto every answer counts. point: the reference point in nats, of kto alone. sft_weight adds
    the cross-entropy a token of the chosen (liked) answer: orpo's own first term, and for the others that of Pang et
    al. 2024 (arXiv 2404.19733).
    """
    reward = rewards(answers, terms)
    chosen, rejected = reward[:, CHOSEN], reward[:, REJECTED]
    count = answers.there[:, CHOSEN].to(reward.dtype)
    if terms.objective == "dpo":
        total = dpo(chosen - rejected, label_smoothing=terms.label_smoothing)
    elif terms.objective == "ipo":
        total = ipo(chosen - rejected, beta=terms.beta)
    elif terms.objective == "simpo":
        total = simpo(chosen - rejected, gamma=terms.gamma)
    elif terms.objective == "orpo":
        total = terms.beta * orpo(answers.means[:, CHOSEN], answers.means[:, REJECTED])
    else:
        scaled = terms.beta * point.to(reward.dtype)
        liked, disliked = (answers.there[:, column].to(reward.dtype) for column in (CHOSEN, REJECTED))
        total = terms.desirable_weight * liked * kto(chosen, liked=True, point=scaled)
        total = total + terms.undesirable_weight * disliked * kto(rejected, liked=False, point=scaled)
        count = liked + disliked
    if terms.sft_weight:
        total = total - terms.sft_weight * answers.means[:, CHOSEN]
    return total, count

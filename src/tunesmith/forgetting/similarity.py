"""`auto` where the pretrained model has no head: whether its features tell the same inputs apart in the same way.

Linear CKA (Kornblith et al. 2019, arXiv:1905.00414) compares which inputs are alike before and now, whatever rotation
or scale the features took on; `cosine` is the mean cosine of each input's own two vectors.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from tunesmith.evaluate.evaluate import Part
from tunesmith.forgetting.base import NothingToScore, Opening
from tunesmith.forgetting.features import features_of, in_float32
from tunesmith.forgetting.inputs import Inputs
from tunesmith.forgetting.measures import cosine, linear_cka, similarity_lost
from tunesmith.forgetting.unlabelled import Unlabelled
from tunesmith.forgetting.work import some_of
from tunesmith.types import Interval, MainScore

MOST = 2_000
"""Inputs whose features are compared: each with each, so that twice as many take four times the memory."""

LEAST = 4
"""Of two inputs any features are alike, of three nearly."""

_WHAT = {
    "texts": "the mean of the last states over a text's tokens",
    "images": "what enters the head",
    "boxes": "the backbone's last map, averaged over places",
}


class Similar(Unlabelled):
    """Features of the model, against those of the untouched one (see `base.OpenTask`)."""

    kind = "auto"
    main = MainScore("cka", "higher")

    def __init__(self, opening: Opening, inputs: Inputs) -> None:
        super().__init__(opening, inputs)
        self.parts = opening.scored([part for part in inputs.names if len(inputs(part).encoded) >= LEAST])
        if not self.parts:
            raise NothingToScore(
                f"the old task {self.name} (auto) is left out: likeness of features needs {LEAST} held-out "
                "inputs or more."
            )
        self._some: dict[str, Part] = {part: some_of(inputs(part), MOST) for part in self.parts}
        known = {part: opening.known.get(f"{self.name}/{part}") for part in self.parts}
        self.reference: Mapping[str, np.ndarray] = {
            part: self.answers(opening.pretrained.model, part) if answers is None else answers
            for part, answers in known.items()
        }
        self.definition = (
            f"likeness (linear CKA, 1.0: the same structure) of the features of {self.rows(self.parts[0]):,} "
            f"{self.parts[0]} inputs {inputs.told} with those before this run; features are "
            f"{_WHAT[opening.task.kind]}; cosine is the mean cosine between the two vectors of an input."
        )

    def rows(self, part: str) -> int:
        """Inputs that are looked at."""
        return len(self._some[part].encoded)

    def answers(self, model: nn.Module, part: str) -> np.ndarray:
        """Features, float32 [inputs, size]."""
        opening = self._opening
        with in_float32(opening.device):
            return features_of(
                model,
                self._some[part].encoded,
                task=opening.task,
                processor=opening.pretrained.processor,
                device=opening.device,
                anatomy=opening.pretrained.anatomy,
            )

    def untouched(self, part: str) -> np.ndarray:
        """The answers that all later ones are held against."""
        return self.reference[part]

    def score(self, answers: np.ndarray, part: str) -> dict[str, float]:
        """`cka` and `cosine` with the untouched model."""
        before = self.reference[part]
        return {"cka": linear_cka(before, answers), "cosine": float(cosine(before, answers).mean())}

    def forgetting(self, first: np.ndarray, last: np.ndarray, part: str) -> Interval:
        """CKA of `first` minus that of `last`."""
        return similarity_lost(self.reference[part], first, last, seed=self._opening.seed)

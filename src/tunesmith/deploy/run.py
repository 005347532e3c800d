"""Run: a finished run as a person holds it in Python, with its answers at hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from tunesmith.deploy.predictor import Predictor
from tunesmith.run.folder import Finished
from tunesmith.types import Prediction


class Run(Finished):
    """A finished run: `folder`, `scores` (scores.json), `recipe` (every value resolved), and `predict`."""

    @cached_property
    def predictor(self) -> Predictor:
        """The delivered model, read when it is first asked."""
        return Predictor(self.folder)

    def predict(self, texts: Sequence[str | tuple[str, str]]) -> list[Prediction]:
        """The delivered model's answers to texts (or pairs of texts)."""
        return self.predictor.predict_texts(texts)

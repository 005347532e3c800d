"""Run: a finished run as a person holds it in Python, with its answers at hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from tunesmith.deploy.predictor import Predictor, Writing
from tunesmith.run.folder import Finished
from tunesmith.types import Prediction


class Run(Finished):
    """A finished run: `folder`, `scores` (scores.json), `recipe` (every value resolved), and `predict`."""

    @cached_property
    def predictor(self) -> Predictor:
        """The delivered model, read when it is first asked."""
        return Predictor(self.folder)

    def predict(self, texts: Sequence[str | tuple[str, str]]) -> list[Prediction]:
        """The delivered model's answers to texts (or pairs of texts); of a language model, its words are the label."""
        return self.predictor.predict_texts(texts)

    def answer(
        self,
        questions: Sequence[str],
        *,
        most_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[str]:
        """What a run's language model answers to each question, in words. temperature 0: the likeliest answer; above it
        answers are drawn, the same ones for the same seed. RecipeError for a run of another kind."""
        chats = [self.predictor.chat_of(question) for question in questions]
        found = self.predictor.write(chats, Writing(most_tokens, temperature, top_p, seed))
        return [each.text for each in found]

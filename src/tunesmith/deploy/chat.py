"""A conversation with a finished run's language model: turns that follow on each other, piece by piece."""

from __future__ import annotations

from collections.abc import Generator

from tunesmith.chats import Chat
from tunesmith.deploy.predictor import Predictor, Writing
from tunesmith.errors import RecipeError
from tunesmith.models.chat_tokens import encode_prompt


class Conversation:
    """What was said so far. `forgotten` counts the earlier messages that were dropped for want of room.

    A model that learned plain texts is given each text to go on with, without what came before.
    """

    def __init__(self, predictor: Predictor, writing: Writing | None = None, system: str = "") -> None:
        self.predictor, self.writing = predictor, writing or Writing()
        self.turns: list[dict[str, str]] = []
        self.forgotten = 0
        self.instruct(system)

    def reset(self) -> None:
        """Begin anew; the system's words stay."""
        self.turns = []
        self.forgotten = 0

    def instruct(self, system: str) -> None:
        """Other words of the system (none: ""), and a new beginning. RecipeError for a model of plain texts."""
        if system and self.predictor.learned_texts:
            raise RecipeError(
                f"{self.predictor.folder} learned plain texts and goes on with them; a system's words have no place."
            )
        self.system = system
        self.reset()

    def say(self, text: str) -> Generator[str, None, None]:
        """The answer to the next turn, piece by piece. What has been written of it is part of the conversation, also
        when the caller stops asking. DataError where the model's template refuses the conversation."""
        if self.predictor.learned_texts:
            yield from self.predictor.stream(Chat(text=text), self.writing)
            return
        self.turns.append({"role": "user", "content": text})
        said: list[str] = []
        try:
            chat = self._fitting()
            for piece in self.predictor.stream(chat, self.writing):
                said.append(piece)
                yield piece
        finally:
            if said:
                self.turns.append({"role": "assistant", "content": "".join(said).strip()})
            else:
                self.turns.pop()

    def _fitting(self) -> Chat:
        """The conversation as a chat. Where it leaves no room for an answer, its oldest turns are dropped for good."""
        limit = self.predictor.longest_input
        while True:
            head = [{"role": "system", "content": self.system}] if self.system else []
            chat = Chat((*head, *self.turns))
            most = self.writing.most_tokens
            room = None if limit is None else limit - min(most, limit // 2)
            if room is None or len(self.turns) < 3 or len(encode_prompt(self.predictor.processor, chat)) <= room:
                return chat
            self.turns = self.turns[2:]
            self.forgotten += 2

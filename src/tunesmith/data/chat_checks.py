"""Is a list of messages a chat that can be learned from: who speaks when, and does everybody say something."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.chat_faults import ChatFault
from tunesmith.data.chat_messages import Message

_AFTER = {
    "": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "calling": ("tool",),
    "tool": ("tool", "assistant"),
}
"""Whose turn it is: after nobody, a question, an answer (which may call a tool in plain words, as Hermes' data do), an
answer that calls a tool, and what a tool said."""


def checked(messages: Sequence[Message], *, needs_answer: bool) -> tuple[list[Message], int]:
    """(the chat up to its last answer, messages behind that which were cut off). ChatFault, naming the message, where
    roles are out of order, a text is empty, or nobody answers. Which answers are learned, `task.train_on` says later.

    needs_answer: False for chats that are to be answered; then nothing is cut, and they may end with a question.
    """
    chat, state = [], ""
    for number, message in enumerate(messages, 1):
        role, which = message["role"], f"message {number}"
        if role == "system":
            if state:
                raise ChatFault(f"{which} is from the system, which speaks only before the first question")
            if message["content"].strip():
                chat.append(message)
            continue
        _is_next(role, state, which, messages)
        _says_something(message, which)
        state = "calling" if message.get("tool_calls") else role
        chat.append(message)
    if sum(message["role"] == "system" for message in chat) > 1:
        raise ChatFault("there is more than one system message")
    if not state:
        raise ChatFault("only the system speaks")
    if not needs_answer:
        return chat, 0
    answered = max((number for number, message in enumerate(chat, 1) if message["role"] == "assistant"), default=0)
    if not answered:
        raise ChatFault("no message is from the assistant, so there is no answer to learn")
    return chat[:answered], len(chat) - answered


def _is_next(role: str, state: str, which: str, messages: Sequence[Message]) -> None:
    allowed = _AFTER[state]
    if role in allowed:
        return
    if not state:
        who = "the assistant" if role == "assistant" else "a tool"
        raise ChatFault(f"{who} speaks first ({which}); a chat starts with a question of the user")
    if role == state:
        whom = "user" if role == "user" else "assistant"
        raise ChatFault(f"{which} is from the {whom} again, who spoke just before")
    if state == "calling":
        raise ChatFault(f"{which} is from the {role}, but a tool was called and has not answered")
    raise ChatFault(f"{which} is from the {role}, where {' or '.join(allowed)} should speak")


def _says_something(message: Message, which: str) -> None:
    if message["role"] != "tool" and not message["content"].strip() and not message.get("tool_calls"):
        raise ChatFault(f"{which} ({message['role']}) is empty")
    if message.get("tool_calls") and message["role"] != "assistant":
        raise ChatFault(f"{which} ({message['role']}) calls a tool, which only the assistant does")

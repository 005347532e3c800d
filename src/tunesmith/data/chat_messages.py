"""A list of messages in anybody's spelling to ours: `role` (system, user, assistant, tool), `content`, `tool_calls`,
`reasoning_content` (thoughts before an answer), and `learned` (False for an answer that is only to be read).

Read are OpenAI's form (`role`, `content`, `tool_calls` with arguments as JSON text, content in parts) and ShareGPT's
(`from`, `value`; human, gpt, function_call, observation). Texts stay letter by letter as they are. An answer is marked
as one to read by OpenAI's `weight: 0` or axolotl's `train: false` (or 0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tunesmith.data.chat_faults import ChatFault, kind_of
from tunesmith.data.strict_json import parse

Message = dict[str, Any]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function_call": "function_call",
    "tool_call": "function_call",
}
"""Roles as they are written, in small letters, to ours; a `function_call` becomes an assistant's message."""
_WRITTEN = re.compile(
    r"""\s*\[\s*\{\s*["'](?:role|from)["']\s*:\s*["'](\w+)["']\s*,\s*["'](?:content|value|tool_calls)["']"""
)
_ROLE_KEYS, _CONTENT_KEYS = ("role", "from"), ("content", "value", "text")
_THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
_READ = frozenset((*_ROLE_KEYS, *_CONTENT_KEYS, "tool_calls", "function_call", "name", "tool_call_id"))


def holds_messages(cell: Any) -> bool:
    """Whether a cell is a list of messages, or the text of one."""
    if isinstance(cell, str):
        found = _WRITTEN.match(cell)
        return found is not None and found[1].casefold() in ROLES
    return isinstance(cell, list | tuple) and bool(cell) and isinstance(cell[0], Mapping)


def messages_of(cell: Any, column: str) -> list[Message]:
    """The messages of a cell: a list, its JSON text, or lists by key, as Arrow has them. ChatFault where it is none."""
    found = _as_list(cell, column)
    if not found:
        raise ChatFault(f'"{column}" holds no message')
    return [message_of(one, f"message {number}") for number, one in enumerate(found, 1)]


def message_of(given: Any, which: str) -> Message:
    """One message. which: how reasons call it."""
    if not isinstance(given, Mapping):
        raise ChatFault(f"{which} is {kind_of(given)}, not an object with role and content")
    key = next((key for key in _ROLE_KEYS if given.get(key) is not None), None)
    if key is None:
        raise ChatFault(f"{which} has no role")
    written = given[key]
    role = ROLES.get(written.strip().casefold()) if isinstance(written, str) else None
    if role is None:
        known = "system, user (human), assistant (gpt), tool (observation), function_call"
        raise ChatFault(f"{which} has the role {_short(written)}; known are {known}")
    content = _content(next((given[key] for key in _CONTENT_KEYS if given.get(key) is not None), None), which)
    if role == "function_call":
        message: Message = {"role": "assistant", "content": "", "tool_calls": _calls(content, which)}
    else:
        message = {"role": role, "content": content}
        if calls := given.get("tool_calls") or given.get("function_call"):
            message["tool_calls"] = _calls(calls, which)
        names = ("name", "tool_call_id")
        message |= {key: given[key] for key in names if isinstance(given.get(key), str) and given[key]}
    if message["role"] == "assistant":
        _, thoughts = _thoughts(given)
        message |= ({"reasoning_content": thoughts} if thoughts.strip() else {}) | _mark(given)
    return message


def keys_not_read(cell: Any) -> set[str]:
    """Keys of the messages in a cell that hold something and that `messages_of` passes over."""
    if isinstance(cell, Mapping) and isinstance(cell.get("role", cell.get("from")), str):
        cell = [cell]
    if not holds_messages(cell) and not isinstance(cell, Mapping):
        return set()
    try:
        messages = [given for given in _as_list(cell, "") if isinstance(given, Mapping)]
    except ChatFault:
        return set()
    return {str(key) for given in messages for key in given.keys() - _READ
            if given[key] not in (None, "", [], {}) and any(role in given for role in _ROLE_KEYS)
            and not _is_read(given, key)}  # fmt: skip


def without_nulls(value: Any) -> Any:
    """The same without the keys that hold nothing, at any depth: columns with types (Arrow) give every row all keys
    that any row has, and a call would be learned with arguments that nobody wrote.
    """
    if isinstance(value, Mapping):
        return {key: without_nulls(held) for key, held in value.items() if held is not None}
    return [without_nulls(held) for held in value] if isinstance(value, list | tuple) else value


def tools_of(cell: Any, column: str) -> tuple[Message, ...]:
    """The tools that a row offers, each as `{"type": "function", "function": {...}}`; none for an empty cell."""
    if isinstance(cell, str):
        if not cell.strip():
            return ()
        cell, wrong = parse(cell)
        if wrong:
            raise ChatFault(f'the tools in "{column}" are {wrong}')
    if cell is None or (isinstance(cell, list | tuple | Mapping) and not cell):
        return ()
    tools = [cell] if isinstance(cell, Mapping) else cell
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        raise ChatFault(f'the tools in "{column}" are no list of objects')
    return tuple(dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)} for tool in tools)


def _as_list(cell: Any, column: str) -> Sequence[Any]:
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        cell, wrong = _parsed(cell)
        if wrong:
            raise ChatFault(f'"{column}" is {wrong}')
    if isinstance(cell, list | tuple):
        return cell
    if isinstance(cell, Mapping):
        columns = [values for values in cell.values() if isinstance(values, list | tuple)]
        if columns and len(columns) == len(cell) and len(set(map(len, columns))) == 1:
            return [dict(zip(cell, values, strict=True)) for values in zip(*columns, strict=True)]
    raise ChatFault(f'"{column}" is {kind_of(cell)}, not a list of messages')


@lru_cache(maxsize=4)
def _parsed(cell: str) -> tuple[Any, str]:
    """A row's messages are asked for twice, to be read and for their keys. Not to be changed in place."""
    return parse(cell)


def _thoughts(given: Mapping[str, Any]) -> tuple[str, str]:
    """(the key of an answer's thoughts, these), of the first key whose parts are all texts; both empty for none."""
    for key in _THOUGHT_KEYS:
        if not (held := given.get(key)):
            continue
        parts = [held] if isinstance(held, str) else held if isinstance(held, list | tuple) else []
        texts = [_part(part, "text", "thinking") for part in parts]
        if any(texts) and None not in texts:
            return key, "".join(map(str, texts))
    return "", ""


def _part(part: Any, *keys: str) -> str | None:
    """The text of a part of a message; None where it is none."""
    if isinstance(part, Mapping):
        part = next((part[key] for key in keys if isinstance(part.get(key), str)), None)
    return part if isinstance(part, str) else None


def _mark(given: Mapping[str, Any]) -> Message:
    read = any(isinstance(given.get(key), int | float) and given[key] == 0 for key in ("weight", "train"))
    return {"learned": False} if read else {}


def _is_read(given: Mapping[str, Any], key: str) -> bool:
    """Whether a key beside those of every message counts. Weights are 0 or 1 here; what is not the assistant's is never
    learned."""
    role = next((given[key] for key in _ROLE_KEYS if isinstance(given.get(key), str)), "")
    answers = ROLES.get(role.strip().casefold()) in ("assistant", "function_call")
    if key in ("weight", "train"):
        return bool(given[key] in ((0, 1) if answers else (0,)))
    return answers and key == _thoughts(given)[0]


def _content(content: Any, which: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise ChatFault(f"the content of {which} is {kind_of(content)}, not text")
    texts = []
    for part in content:
        text = _part(part, "text")
        if text is None:
            kind = part.get("type") if isinstance(part, Mapping) else None
            raise ChatFault(f"the content of {which} holds a part of type {_short(kind)}; only texts can be learned")
        texts.append(text)
    return "".join(texts)


def _calls(given: Any, which: str) -> list[Message]:
    """Calls of tools, their arguments as an object: what chat templates take."""
    if isinstance(given, str):
        given, wrong = parse(given)
        if wrong:
            raise ChatFault(f"the function call of {which} is {wrong}")
    calls = [given] if isinstance(given, Mapping) else given
    if not isinstance(calls, list | tuple) or not calls:
        raise ChatFault(f"the function call of {which} is {kind_of(given)}, not an object with name and arguments")
    return [_call(call, which) for call in calls]


def _call(call: Any, which: str) -> Message:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ChatFault(f"a function call of {which} has no name")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments, wrong = parse(arguments) if arguments.strip() else ({}, "")
        if wrong:
            raise ChatFault(f"the arguments of {function['name']} in {which} are {wrong}")
    if not isinstance(arguments, Mapping | None):
        raise ChatFault(f"the arguments of {function['name']} in {which} are {kind_of(arguments)}, not an object")
    found: Message = {"type": "function", "function": {"name": function["name"], "arguments": dict(arguments or {})}}
    return {"id": call["id"], **found} if isinstance(call.get("id"), str) and call["id"] else found


def _short(value: Any) -> str:
    text = " ".join(str(value)[:60].split())
    return f'"{text[:29]}…"' if len(text) > 30 else f'"{text}"'

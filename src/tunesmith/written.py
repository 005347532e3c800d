"""Files written in one rename, so that a reader sees the old one or the new one, and never half of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, content: str | Iterable[str], *, errors: str = "strict", synced: bool = False) -> None:
    """Replace a text file by a string, or by strings that are written one after the other.

    The new file is made beside it, afresh: what lies there under its name, such as a link in a folder that somebody
    sent, is taken away and not written through. synced: wait until the disk has it. OSError where the disk refuses.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(handle, "w", encoding="utf-8", errors=errors) as file:
        file.writelines([content] if isinstance(content, str) else content)
        if synced:
            file.flush()
            os.fsync(file.fileno())
    os.replace(new, path)

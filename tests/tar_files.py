"""Archives unpacked by any Python that the project supports."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Literal


def unpack(file: Path, folder: Path, *, trusted: bool = False) -> None:
    """Every member of the tar file; trusted: with links that lead out of the folder."""
    how: Literal["fully_trusted", "data"] = "fully_trusted" if trusted else "data"
    filtered = {"filter": how} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4; Debian 12 has 3.11.2
    with tarfile.open(file) as archive:
        archive.extractall(folder, **filtered)  # type: ignore[arg-type]

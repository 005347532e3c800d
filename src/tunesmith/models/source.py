"""Finding a pretrained model: `package:NAME/sub`, a folder, a file of a model folder, or a name on the hub.

Nothing is loaded here, and nothing is fetched unless the person named a model on the hub that is not in the local
cache. From the hub come safetensors, JSON, text and sentencepiece files and the model's card; never code or pickle.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from tunesmith.errors import ModelError, did_you_mean
from tunesmith.places import resolve_place
from tunesmith.types import ModelSource

FETCHED = ("*.safetensors", "*.json", "*.txt", "*.model", "README.md", "LICENSE*")
"""What is taken from the hub."""

NOT_FETCHED = ("onnx/*", "openvino/*", "coreml/*", "original/*", "consolidated*")
"""Second copies of the weights in the formats of other programs."""

DECISIVE = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "modules.json",
    "1_Pooling/config.json",
)
"""Files that decide a model's answers: their sha256 is kept, so that a later change does not go unseen."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HOW_TO_NAME = (
    "A model is named by its folder (models/minilm or /data/models/minilm), by a file in it (config.json or "
    "model.safetensors), by a pip package (package:NAME/folder), or by its name on the hub (org/name)."
)


def locate(name: str, revision: str | None = None) -> ModelSource:
    """Find the model a person named, on this machine if it is there.

    revision: branch, tag or commit on the hub; only for hub names.
    Raises ModelError where nothing of that name is found, and where a hub name is neither in the local Hugging Face
    cache nor can be fetched.
    """
    if not name.strip():
        raise ModelError(f"The model's name is empty. {_HOW_TO_NAME}")
    path = Path(resolve_place(name)) if name.startswith("package:") else Path(name).expanduser()
    if path.exists():
        if revision is not None:
            raise ModelError(
                f"revision: {revision} belongs to a hub name, but {name} is on this machine. Leave it out."
            )
        folder = _folder_of(path)
    elif name.startswith("package:") or not _may_be_hub_name(name):
        raise ModelError(f"There is no model at {name}.{_near(path)} {_HOW_TO_NAME}")
    else:
        folder = _from_hub(name, revision)
    return ModelSource(name, str(folder.resolve()), _hashes(folder), licence_of(folder))


def _folder_of(path: Path) -> Path:
    if path.is_dir():
        return path
    if path.name == "config.json" or path.suffix == ".safetensors":
        if (path.parent / "config.json").is_file():
            return path.parent
        raise ModelError(
            f"{path} has no config.json beside it, and weights alone do not say what network they belong to. "
            "Put the model's config.json and tokenizer files into the same folder."
        )
    if path.suffix.lower() == ".gguf":
        raise ModelError(f"{path} is a GGUF file: a language model for the tasks causal_lm and preference alone.")
    raise ModelError(
        f"{path} is not a model: of a model's files tunesmith takes config.json or model.safetensors as its name. "
        f"Pickle files ({path.suffix or 'no ending'} among them) are never opened. {_HOW_TO_NAME}"
    )


def _may_be_hub_name(name: str) -> bool:
    """Whether to ask the hub. A single word is far more often a mistyped folder than one of the hub's oldest names."""
    return _HUB_NAME.fullmatch(name) is not None and ".." not in name and "--" not in name


def _near(path: Path) -> str:
    """A hint at a folder of nearly the same name in the nearest parent that exists."""
    for parent in path.parents:
        if parent.is_dir():
            wanted = path.relative_to(parent).parts[0]
            hint = did_you_mean(wanted, (p.name for p in parent.iterdir() if not p.name.startswith(".")))
            if parent == Path() or not hint:
                return hint
            return hint.replace('"', f'"{parent}/', 1)
    return ""


def _from_hub(name: str, revision: str | None) -> Path:
    """The snapshot folder of a hub model: from the local cache where it is whole, else fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
    from huggingface_hub.errors import RevisionNotFoundError as NoRevision

    def snapshot(*, local: bool) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=local,
                allow_patterns=list(FETCHED),
                ignore_patterns=list(NOT_FETCHED),
            )
        )

    try:
        folder = snapshot(local=True)
        if _is_whole(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    try:
        folder = snapshot(local=False)
    except GatedRepoError as error:
        raise ModelError(
            f"{name} asks for its conditions to be accepted: do so at https://huggingface.co/{name} and log in with "
            "`hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"The hub knows no model {name}, or it is private (then `hf auth login`).{_near(Path(name))} {_HOW_TO_NAME}"
        ) from error
    except NoRevision as error:
        raise ModelError(f"{name} has no revision {revision}: name a branch, tag or commit of it.") from error
    except Exception as error:  # what a missing network raises differs between versions of the http libraries
        raise ModelError(
            f"{name} is no folder here, is not (whole) in the local Hugging Face cache, and there is no network to the "
            f"hub ({_first_line(error)}).{_near(Path(name))} Fetch it where there is a network with `hf download "
            f"{name}`, or name a model folder: models/minilm or /data/models/minilm."
        ) from error
    if not any(folder.glob("*.safetensors")):
        if "gguf" in name.lower():
            raise ModelError(
                f"{name} offers GGUF files. Fetch the one you want and name it: `hf download {name} FILE.gguf` prints "
                "its path. Of one model the larger file has lost less."
            )
        raise ModelError(
            f"{name} on the hub offers no safetensors weights, and pickle weights are never fetched: they can run code "
            f"when opened. Many models have a converted revision: see the discussions at https://huggingface.co/{name} "
            "and name it as revision: refs/pr/NUMBER."
        )
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether a cached snapshot has config and weights: other programs may have fetched its tokenizer alone."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120].rstrip(".")


def _hashes(folder: Path) -> dict[str, str]:
    """sha256 of each decisive file, by its path inside the folder, sorted."""
    files: set[Path] = {path for pattern in DECISIVE for path in folder.glob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(files)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def licence_of(folder: Path) -> str | None:
    """The licence named by the model card's front matter, else the first line of a licence file."""
    card = folder / "README.md"
    if card.is_file():
        found = _front_matter(card.read_text(encoding="utf-8", errors="replace")[:65536].splitlines())
        named = found.get("license_name") if found.get("license") == "other" else None
        if named or found.get("license"):
            return named or found["license"]
    for path in sorted(folder.glob("LICEN[SC]E*")):
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace")[:4096].splitlines()
            return next((line.strip() for line in lines if line.strip()), None)
    return None


def _front_matter(lines: Iterable[str]) -> dict[str, str]:
    """The one-line entries of a card's front matter. Read as lines: a card is a stranger's file, no YAML is run."""
    found: dict[str, str] = {}
    rows = iter(lines)
    if next(rows, "").strip() != "---":
        return found
    for row in rows:
        if row.strip() == "---":
            return found
        key, colon, value = row.partition(":")
        if colon and value.strip() and not row.startswith((" ", "-", "#")):
            found[key.strip()] = value.strip().strip("\"'")
    return {}

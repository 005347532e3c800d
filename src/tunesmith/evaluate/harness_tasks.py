"""From what a person wrote to a task of the lm-evaluation-harness: `NAME`, `hf:NAME`, or the path of a task file.

The harness's own tasks bring their data from the Hugging Face hub, which is asked only where the person named it
(`hf:NAME`); else the data must lie in the local cache. A task file of one's own is read as a recipe is, without tags,
so that it runs no code; its files are looked for beside it, then in the working directory. What runs code of the hub or
a model's answers, needs pictures, or is no single task, is refused in words.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import DataError, RecipeError, did_you_mean
from tunesmith.evaluate.harness_quiet import in_place, unseen
from tunesmith.places import HARNESS, HUB, harness_parts, resolve_place
from tunesmith.recipe.read import read_yaml

LOCAL = ("json", "csv", "parquet", "text", "arrow")
"""What `dataset_path` may say of files on disk; nothing of these runs code."""
_CODE = ("trust_remote_code", "custom_generate", "unsafe_code")
_MANY = 20


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task of the harness, its data read. whose: as messages call it. own_file: whether it is a person's own file.
    fetching: whether the person named the hub."""

    name: str
    task: Any
    whose: str
    own_file: bool
    fetching: bool


def named(source: str) -> str:
    """What a task is called: `arc_easy` of `harness:hf:arc_easy`, `boats` of `harness:tasks/boats.yaml`."""
    _, name = _parts(source)
    return Path(name).stem if _is_file(name) else name


def find_task(source: str, work: Path) -> FoundTask:
    """The task that `harness:NAME` means, or NAME alone. work: a folder for what reading a person's own data leaves.

    RecipeError where lm-eval is not installed or the name is none; DataError where its data are not here or cannot be
    read, and for what is refused.
    """
    _check_installed()
    mark, name = _parts(source)
    fetching, whose = mark.endswith(HUB), mark + name
    if not name:
        raise RecipeError(f"{mark} names no task: write {HARNESS}arc_easy, or the path of a task file of your own.")
    own_file = _is_file(name)
    with unseen():
        manager = _manager(None if own_file else name)
    if own_file:
        spec: Any = _own_config(name, work, whose)
        config = spec
    else:
        spec, config = name, _known(manager, name, whose)
    _check_safe(config, whose, own_file=own_file)
    with in_place(fetching=fetching, own_file=own_file):
        try:
            (task,) = manager.load([spec])["tasks"].values()
        except Exception as error:  # the libraries raise many kinds; each of them means: this task cannot be read
            raise _unreadable(error, config, name, whose, fetching=fetching) from error
    return FoundTask(named(source), task, whose, own_file, fetching)


def _parts(source: str) -> tuple[str, str]:
    return harness_parts(HARNESS + source.removeprefix(HARNESS))


def _check_installed() -> None:
    """RecipeError unless lm-eval can be imported."""
    try:
        import lm_eval.tasks  # noqa: F401
    except ImportError as error:
        raise RecipeError(
            "Tasks of the evaluation harness need the package lm-eval, which is not installed: pip install "
            f"'tunesmith[harness]'. ({error})"
        ) from error


def _is_file(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))


def _known(manager: Any, name: str, whose: str) -> Mapping[str, Any]:
    """The settings of the one task of that name, functions of it named and not read. RecipeError with near names where
    there is none, with its tasks where it is a group."""
    entry = manager.task_index.get(name)
    if entry is None:
        raise RecipeError(
            f"{whose}: the lm-evaluation-harness has no task of that name.{did_you_mean(name, manager.all_tasks)} "
            "`lm-eval ls tasks` lists them; a task file of your own is named by its path, ending in .yaml."
        )
    if entry.kind.name in ("GROUP", "TAG"):
        children = sorted(entry.tags) if entry.kind.name == "TAG" else _children(entry.cfg)
        raise RecipeError(
            f"{whose} is a group of {len(children)} tasks, each with a score of its own. Name those that you want: "
            + ", ".join(whose.removesuffix(name) + child for child in children[:_MANY])
            + (f" and {len(children) - _MANY} more." if len(children) > _MANY else ".")
        )
    config: Mapping[str, Any] = entry.cfg
    return config


def _children(config: Mapping[str, Any]) -> list[str]:
    members = config.get("task") or []
    members = [members] if isinstance(members, str) else members
    return [each if isinstance(each, str) else str(each.get("task") or each.get("group")) for each in members]


def _manager(name: str | None) -> Any:
    """The harness's index of its tasks: of the folder in which `name` stands, since all of them take long to read; of
    all where it stands nowhere (a tag, a slip); of none without a name."""
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    if name is None:
        return TaskManager(include_defaults=False)
    head = re.compile(rf"^[\"']?(?:task|group)[\"']?:[ ]*[\"']?{re.escape(name)}[\"']?[ ]*(?:#.*)?$", re.MULTILINE)
    for file in sorted(Path(lm_eval.tasks.__file__).parent.rglob("*.yaml")):
        if head.search(file.read_text(encoding="utf-8", errors="replace")):
            return TaskManager(include_defaults=False, include_path=file.parent)
    return TaskManager()


def _check_safe(config: Mapping[str, Any], whose: str, *, own_file: bool) -> None:
    """DataError for a task that would run code of the hub or a model's answers, or needs more than text. The harness's
    own tasks may use functions that are installed with it."""
    import lm_eval.api.metrics  # noqa: F401
    from lm_eval.api.registry import METRIC_REGISTRY

    wrong = None
    if config.get("class") or config.get("custom_dataset"):
        wrong = "is a Python program that makes its own data"
    elif key := next((key for key in _CODE if _holds(config, key)), None):
        wrong = f"asks for code to be run that others wrote, or a model ({key})"
    elif config.get("doc_to_image") or config.get("doc_to_audio"):
        wrong = "asks about pictures or sounds"
    elif config.get("use_prompt"):
        wrong = "takes its prompt from another package (use_prompt)"
    listed = config.get("metric_list")
    computed = not own_file and config.get("process_results")
    for each in listed if isinstance(listed, list) and not computed else []:
        if not isinstance(each, Mapping):
            continue  # the harness itself says what is wrong with it
        name = str(each.get("metric"))
        function = not own_file and "/" in name  # its place, as the index tells it
        if each.get("hf_evaluate") or (not function and name not in METRIC_REGISTRY):
            wrong = f'has a metric "{name}" that is a program outside the harness'
    if wrong:
        raise DataError(f"{whose} {wrong}, which is refused here. Name another task.")


def _holds(value: Any, key: str) -> bool:
    """Whether a setting of that name is switched on anywhere."""
    if isinstance(value, Mapping):
        return bool(value.get(key)) or any(_holds(each, key) for each in value.values())
    return isinstance(value, list) and any(_holds(each, key) for each in value)


def _unreadable(error: Exception, config: Mapping[str, Any], name: str, whose: str, *, fetching: bool) -> DataError:
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    path, part = config.get("dataset_path"), config.get("dataset_name")
    if fetching or not path or path in LOCAL or isinstance(error, ImportError):
        return DataError(f"{whose} cannot be read by the lm-evaluation-harness ({said}).")
    told = f"{path} ({part})" if part else str(path)
    return DataError(
        f"{whose} takes its data from the Hugging Face hub, {told}, and they are not in the local cache; nothing is "
        f"fetched that was not asked for. Name the hub to have them fetched: {HARNESS}{HUB}{name}. ({said})"
    )


def _own_config(name: str, work: Path, whose: str) -> dict[str, Any]:
    """The settings of a person's own task file and of those that it includes, with the places of its data."""
    path = Path(resolve_place(name)).expanduser()
    if not path.is_file():
        raise DataError(f"{whose}: there is no task file {path}.")
    config = _read(path, whose, ())
    if isinstance(config.get("group"), str) or not isinstance(config.get("task"), str):
        raise RecipeError(f"{whose} names no task: it needs `task: NAME`; a group's tasks are named one by one.")
    kind, said = config.get("dataset_path"), config.get("dataset_kwargs")
    given = dict(said) if isinstance(said, Mapping) else {}
    if kind in LOCAL:
        if not given.get("data_files") or given.get("data_dir"):
            raise DataError(f"{whose} needs its files: dataset_kwargs: {{data_files: {{test: boats.jsonl}}}}.")
        given["data_files"] = _places(given["data_files"], path.parent, whose)
        given["cache_dir"] = str(work)
    elif not isinstance(kind, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", kind) or Path(kind).exists():
        raise DataError(
            f"{whose}: dataset_path is {kind}; it must be {', '.join(LOCAL[:-1])} or {LOCAL[-1]}, with dataset_kwargs: "
            f"{{data_files: ...}}, or the name of a data set on the hub (then {HARNESS}{HUB}{name})."
        )
    elif given.get("data_dir") or "://" in str(given):
        raise DataError(f"{whose}: of a data set on the hub its dataset_name is enough; leave other places out.")
    return {**config, "dataset_kwargs": given}


def _read(path: Path, whose: str, on_the_way: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in on_the_way:
        raise DataError(f"{whose}: {path} includes itself.")
    try:
        config, _ = read_yaml(path)
    except RecipeError as fault:
        if path.is_file() and "!function" in path.read_text(encoding="utf-8", errors="replace"):
            raise DataError(
                f"{whose} runs Python code (!function), and a task file of your own may not: say it with templates, "
                f"metrics and filters of the harness. ({fault})"
            ) from fault
        raise DataError(f"{whose}: the task file cannot be used. {fault}") from fault
    included = config.pop("include", None) or []
    whole: dict[str, Any] = {}
    for each in included if isinstance(included, list) else [included]:
        whole |= _read(path.parent / str(each), whose, (*on_the_way, path.resolve()))
    return {**whole, **config}


def _places(value: Any, folder: Path, whose: str) -> Any:
    """File names, in lists or by part, as paths; DataError where one is not there."""
    if isinstance(value, Mapping):
        return {key: _places(each, folder, whose) for key, each in value.items()}
    if isinstance(value, list):
        return [_places(each, folder, whose) for each in value]
    place = Path(resolve_place(str(value))).expanduser()
    for path in (folder / place, Path.cwd() / place):
        if glob.glob(str(path), recursive=True):
            return str(path.absolute())
    raise DataError(f"{whose}: its data {value} are neither beside the task file ({folder}) nor in the working folder.")

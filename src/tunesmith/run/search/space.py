"""What a search may change: dimensions, each a dotted setting of the recipe with a range or with choices.

    train.learning_rate=1e-4..1e-2:log      a range, even on the logarithm
    train.epochs=2..6:step=1                a range in steps
    method.rank=4,8,16                      choices
    method=lora,full                        so are names; `method.rank` is then drawn where the method has it
    train.learning_rate=default             as a search without a space would take it

A range of a setting that takes whole numbers only is one of whole numbers; any other is continuous without `step`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.errors import RecipeError
from tunesmith.methods import base as methods
from tunesmith.plugin import Plugin
from tunesmith.recipe.read import parse, read_written
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.scalars import Written, plain, scalar
from tunesmith.retention import base as retentions

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = str | int | float

_NUMBER: Final = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*?)?)(?:[eE][-+]?[0-9]+)?"
_RANGE: Final = re.compile(rf"({_NUMBER})\.\.({_NUMBER})((?::[^:]*)*)")
_WAYS: Final = "PATH=LOW..HIGH, PATH=LOW..HIGH:log, PATH=LOW..HIGH:step=1, PATH=A,B,C or PATH=default"


@dataclass(frozen=True, slots=True)
class Dimension:
    """One thing that differs from trial to trial.

    choices: texts as a dotted setting takes them; where there are none, `low` to `high` is a range, both ends
    included. method: drawn only where this method is. default: filled in once the default recipe is resolved.
    why: where the range comes from.
    """

    path: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False
    choices: tuple[str, ...] = ()
    method: str | None = None
    default: bool = False
    why: str = "given"

    @property
    def name(self) -> str:
        """How the search calls it: its path, with the method where it belongs to one only."""
        return f"{self.path}@{self.method}" if self.method else self.path

    def distribution(self) -> BaseDistribution:
        """The same for Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def tidy(self, value: Value) -> Value:
        """A drawn number in four digits, so that a recipe reads as one would write it; still within the range."""
        if self.choices or self.whole or self.step is not None or isinstance(value, str):
            return value
        return min(self.high, max(self.low, float(f"{value:.4g}")))

    def of(self, value: Any) -> Value | None:
        """A recipe's value as one of this dimension; None where it lies outside."""
        if self.choices:
            text = written(value)
            same = (c for c in self.choices if c == text or plain(_read(c)) == value)
            return next(same, None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        if self.step and abs((value - self.low) / self.step - round((value - self.low) / self.step)) > 1e-9:
            return None
        return int(value) if self.whole and float(value).is_integer() else None if self.whole else float(value)

    def says(self) -> str:
        """The range or the choices in words."""
        if self.default:
            return "as by default"
        if self.choices:
            return ", ".join(self.choices)
        step = self.step or (1 if self.whole and not self.log else None)
        ends = f"{self.low:.6g} to {self.high:.6g}"
        return ends + (", even on the logarithm" if self.log else f", in steps of {step:g}" if step else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Dimension:
        """The dimension that `as_dict` wrote."""
        return cls(**{**values, "choices": tuple(values["choices"])})


def parse_over(text: str) -> Dimension:
    """A dimension from `PATH=RANGE` or `PATH=CHOICES`. RecipeError that says what is wrong and how it is written."""
    path, equals, wanted = (part.strip() for part in text.partition("="))
    if not equals or not path or not wanted:
        raise RecipeError(f'--over "{text}" is no dimension of a search; write {_WAYS}.')
    return _dimension(path, wanted)


def read_space(file: Path) -> list[Dimension]:
    """Dimensions from a YAML file of `path: range` lines: the same texts as `--over` takes, or a list of choices."""
    mapping, lines = read_written(file)
    found = []
    for path, value in mapping.items():
        if isinstance(value, Mapping):
            raise RecipeError(
                f"{file}:{lines.get(path, 0)}: {path} holds settings; write whole paths, one a line, such as "
                '`train.learning_rate: "1e-4..1e-2:log"` or `method.rank: [4, 8, 16]`.'
            )
        try:
            choices = tuple(written(each) for each in value) if isinstance(value, list) else None
            found.append(_choices(path, choices) if choices is not None else _dimension(path, written(value)))
        except RecipeError as error:
            raise RecipeError(f"{file}:{lines.get(path, 0)}: {error}") from error
    return found


def _dimension(path: str, wanted: str) -> Dimension:
    if wanted == "default":
        return Dimension(path, default=True)
    found = _RANGE.fullmatch(wanted)
    if found is None:
        if ".." in wanted:
            raise RecipeError(f'{path}: "{wanted}" is no range; write LOW..HIGH, perhaps with :log or :step=NUMBER.')
        return _choices(path, tuple(written(each) for each in _read(f"[{wanted}]", path)))
    low, high = float(found[1]), float(found[2])
    log, step = False, None
    for ending in found[3].split(":")[1:]:
        name, _, number = ending.partition("=")
        if name == "log" and not number:
            log = True
        elif name == "step" and re.fullmatch(_NUMBER, number) and float(number) > 0:
            step = float(number)
        else:
            raise RecipeError(f'{path}: ":{ending}" is not known; a range may end in :log or in :step=NUMBER above 0.')
    fault = _range_fault(low, high, log, step)
    if fault:
        raise RecipeError(f"{path}: {wanted}: {fault}")
    if step is not None:
        high = low + step * int((high - low) / step + 1e-9)
    return Dimension(path, low, high, log, step)


def _range_fault(low: float, high: float, log: bool, step: float | None) -> str:
    if low >= high:
        return f"the low end {low:g} must be below the high end {high:g}."
    if log and low <= 0:
        return f"a range on the logarithm begins above 0, not at {low:g}."
    if log and step is not None:
        return "a range is either on the logarithm or in steps; leave one out, or list the choices."
    return f"the step {step:g} is wider than the range." if step is not None and step > high - low else ""


def _choices(path: str, choices: tuple[str, ...]) -> Dimension:
    if len(choices) < 2:
        raise RecipeError(f"{path}: a search needs two choices at least; found {len(choices)}. To set a value for all "
                          f"trials, give it as a setting: {path}={', '.join(choices) or 'VALUE'}.")  # fmt: skip
    if len(set(choices)) < len(choices):
        raise RecipeError(f"{path}: a choice stands twice in {', '.join(choices)}.")
    return Dimension(path, choices=choices)


def written(value: Any) -> str:
    """A value as the text of a dotted setting that means it."""
    if isinstance(value, Written):
        return value.text
    if isinstance(value, str):
        plain_word = isinstance(scalar(value), str) and not value.startswith(("[", "{", "'", '"'))
        return value if plain_word else json.dumps(value, ensure_ascii=False)
    return json.dumps(plain(value), ensure_ascii=False)


def _read(text: str, path: str = "") -> Any:
    try:
        return parse(text)[0]
    except RecipeError as error:
        raise RecipeError(f"{path}: {text}: {error}" if path else str(error)) from error


def name_in(choice: str) -> str | None:
    """The plugin that a text such as `lora` or `{name: lora, rank: 4}` names; None for null."""
    value = plain(_read(choice))
    return value.get("name") if isinstance(value, Mapping) else value if isinstance(value, str) else None


def plugin_name(plugin: Plugin | None) -> str | None:
    """The name by which a recipe asks for it."""
    return None if plugin is None else plugin.name or type(plugin).__module__.rpartition(".")[2]


def is_active(dimension: Dimension, chosen: Mapping[str, Value], recipe: Recipe) -> bool:
    """Whether a dimension has a meaning beside what is chosen already (by path): the method or the retention that it
    belongs to is the one that this trial takes."""
    section, _, option = dimension.path.partition(".")
    if section not in ("method", "retention") or not option:
        section = "method" if dimension.method else ""
    if not section:
        return True
    registry: Any = {"method": methods.registry, "retention": retentions.registry}[section]
    name = name_in(str(chosen[section])) if section in chosen else plugin_name(getattr(recipe, section))
    if dimension.method is not None:
        return name == dimension.method
    return name is not None and option.split(".")[0] in registry.get(name).model_fields


def settings(space: Iterable[Dimension], drawn: Mapping[str, Value]) -> tuple[str, ...]:
    """The dotted settings that what was drawn (by dimension's name) means; whole sections first."""
    chosen = [d for d in space if d.name in drawn]
    chosen.sort(key=lambda d: d.path.count("."))
    return tuple(f"{d.path}={_text(drawn[d.name])}" for d in chosen)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else repr(value)


def in_order(space: Sequence[Dimension]) -> list[Dimension]:
    """Whole sections (method, retention) first: what is drawn for them decides which options there are."""
    return sorted(space, key=lambda d: "." in d.path)

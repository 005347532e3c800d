"""Reading YAML: strict, bounded, with lines, and every scalar's written text kept."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import RecipeError
from tunesmith.recipe.read import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse, read_written, read_yaml
from tunesmith.recipe.scalars import Written, plain, scalar

BROKEN = Path(__file__).parents[2] / "../shared/data/broken/config"


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def fault(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(RecipeError) as caught:
        read_yaml(written(tmp_path, text))
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_every_dotted_path_knows_its_line(tmp_path: Path) -> None:
    mapping, lines = read_yaml(written(tmp_path, "task: a\n\ntrain:\n  epochs: 2\n  steps: null\nlabels:\n- x\n- y\n"))
    assert mapping == {"task": "a", "train": {"epochs": 2, "steps": None}, "labels": ["x", "y"]}
    assert lines["task"] == 1
    assert lines["train"] == 3
    assert lines["train.epochs"] == 4
    assert lines["labels.1"] == 8


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("012", 12),
        ("0o17", 15),
        ("0xff", 255),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_booleans_and_nulls_follow_yaml_1_2_and_keep_their_text(text: str, value: object) -> None:
    found = scalar(text)
    assert isinstance(found, Written)
    assert found.text == text
    assert found.value == value
    assert type(found.value) is type(value)


@pytest.mark.parametrize(
    "text", ["no", "yes", "on", "off", "y", "12:30", "2024-01-01", "1_000", "e5", ".", "1.2.3", "nan"]
)
def test_words_stay_words(text: str) -> None:
    assert scalar(text) == text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30))
def test_every_number_python_writes_is_read_back(number: float) -> None:
    found = scalar(repr(number))
    assert isinstance(found, Written)
    assert found.value == number


def test_quoted_scalars_are_words(tmp_path: Path) -> None:
    mapping, _ = read_written(written(tmp_path, "a: \"1\"\nb: 'true'\nc: !!str 12\nd: |\n  7\n"))
    assert mapping == {"a": "1", "b": "true", "c": "12", "d": "7\n"}


def test_anchors_and_merge_keys_work_and_own_keys_win(tmp_path: Path) -> None:
    text = "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\none: {<<: *b, y: 9}\ntwo:\n  <<: [*b, *o]\n"
    mapping, _ = read_yaml(written(tmp_path, text))
    assert mapping["one"] == {"x": 1, "y": 9}
    assert mapping["two"] == {"x": 1, "y": 2, "z": 4}


def test_all_duplicate_keys_are_named_with_both_lines(tmp_path: Path) -> None:
    message = fault(tmp_path, "a: 1\na: 2\nt:\n  b: 1\n  b: 2\n")
    assert "recipe.yaml:2: a: is set twice, first on line 1" in message
    assert "recipe.yaml:5: t.b: is set twice, first on line 4" in message


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"], ids=lambda name: name
)
def test_unicode_encodings_are_told_apart(tmp_path: Path, encoding: str) -> None:
    mapping, _ = read_yaml(written(tmp_path, "data: r\u00e9sum\u00e9 \u8bc4\u8bba.csv\n".encode(encoding)))
    assert mapping == {"data": "r\u00e9sum\u00e9 \u8bc4\u8bba.csv"}


def test_a_byte_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    assert "recipe.yaml:2: byte 11 is not utf-8" in fault(tmp_path, b"a: 1\nb: caf\xe9\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!python/name:os.system x\n", "tag"),
        ("a: !mine 3\n", "tag"),
        ("a: !!float 3\n", "tag"),
        ("a:\n\tb: 1\n", "recipe.yaml:2: is indented with a tab"),
        ("- a\n", "holds a list"),
        ("just words\n", "holds a single value"),
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("a: 1\n---\nb: 2\n", "second document"),
        ("a: b: c\n", "colon"),
        ("a: [1, 2\n", "recipe.yaml:"),
        ("a: *nothing\n", "nothing"),
        ("a: \x07\n", "control character"),
        ("[a, b]: 1\n", "a single word"),
        (f"a: {'9' * 41}\n", "41 digits"),
        ("a: &a [*a]\n", "aliases expand"),
        ("x: {<<: 3}\n", "needs a mapping"),
        ("a: " + "[" * 200 + "]" * 200 + "\n", f"nested more than {MAX_DEPTH} deep"),
        ("\n".join(f"k{n}: 1" for n in range(MAX_NODES)), "more than 50,000 values"),
        ("a: " + "x" * MAX_BYTES, "larger than"),
    ],
)
def test_what_is_no_recipe_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    assert words in fault(tmp_path, text)


def test_a_missing_file_is_a_recipe_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe: No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        read_yaml(tmp_path)


def test_an_alias_bomb_ends_at_the_limit_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    start = time.perf_counter()
    assert "aliases expand to more than 50,000 values" in fault(tmp_path, "\n".join(lines))
    assert time.perf_counter() - start < 2


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_but_never_crashes(text: str) -> None:
    with contextlib.suppress(RecipeError):
        plain(parse(text)[0])


EXPECTED = {
    "anchors_ok.yaml": "",
    "bad_values.yaml": "",
    "deep.yaml": "nested more than 100 deep",
    "duplicate_keys.yaml": "duplicate_keys.yaml:2: epochs: is set twice, first on line 1",
    "empty.yaml": "is empty",
    "huge_int.yaml": "a number of 5000 digits",
    "inf_lr.yaml": "",
    "list_root.yaml": "holds a list",
    "norway.yaml": "",
    "python_object.yaml": "the tag 'tag:yaml.org,2002:python/object/apply:builtins.open' is not allowed",
    "sci_float.yaml": "",
    "tabs.yaml": "tabs.yaml:2: is indented with a tab",
    "unknown_key.yaml": "",
    "utf16.yaml": "",
    "yaml_bomb.yaml": "aliases expand to more than 50,000 values",
}
needs_broken = pytest.mark.skipif(not BROKEN.is_dir(), reason="shared/data/broken is not beside the checkout")


@needs_broken
@pytest.mark.parametrize("name", EXPECTED)
def test_each_broken_file_is_read_or_met_with_one_clear_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = (BROKEN / name).resolve()
    monkeypatch.chdir(tmp_path)
    if EXPECTED[name]:
        with pytest.raises(RecipeError) as caught:
            read_yaml(file)
        assert EXPECTED[name] in str(caught.value)
        assert len(caught.value.faults) == 1
    else:
        assert read_yaml(file)[0]
    assert list(tmp_path.iterdir()) == []


@needs_broken
def test_no_broken_file_is_left_untested() -> None:
    assert {file.name for file in BROKEN.iterdir()} <= set(EXPECTED)


@needs_broken
def test_the_readable_broken_files_mean_what_was_written() -> None:
    assert read_yaml(BROKEN / "sci_float.yaml")[0] == {"learning_rate": 1e-4, "weight_decay": 1e-2, "epochs": 3}
    assert read_yaml(BROKEN / "utf16.yaml")[0] == {"epochs": 1}
    assert read_yaml(BROKEN / "anchors_ok.yaml")[0]["run1"] == {"lr": 0.0005, "epochs": 2}

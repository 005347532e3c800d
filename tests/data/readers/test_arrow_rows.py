"""Arrow and Parquet files that somebody sends: nothing is fetched, the memory holds, a bad value costs its own row."""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.conftest import quarantined

from tunesmith.data.options import DataOptions
from tunesmith.data.readers import _arrow_rows, _parquet_batches
from tunesmith.data.readers.base import registry
from tunesmith.errors import DataError
from tunesmith.types import Dataset

ADDRESS = "http://pictures.invalid/x.png"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was asked of the network."""
    asked: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        asked.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield asked
    assert not asked


def _nested(datasets: Any) -> dict[str, Any]:
    image = datasets.Image()
    return {
        "list": datasets.List(image),
        "large": datasets.LargeList(image),
        "inner": {"one": image},
        "deep": datasets.List({"one": datasets.List(image)}),
        "image": image,
        "sound": datasets.List(datasets.Audio()),
        "video": datasets.Video(),
    }


def _cell(name: str, path: str) -> Any:
    one = {"bytes": None, "path": path}
    shapes = {"list": [one], "large": [one], "inner": {"one": one}, "deep": [{"one": [one]}], "sound": [one]}
    return shapes.get(name, one)


def _saved(folder: Path, features: dict[str, Any], cells: dict[str, Any], count: int = 20) -> Path:
    import datasets

    known = datasets.Features({"text": datasets.Value("string"), "label": datasets.Value("string")} | features)
    storage = {name: pa.array([cell] * count, known.arrow_schema.field(name).type) for name, cell in cells.items()}
    storage |= {"text": pa.array([f"t{i}" for i in range(count)]), "label": pa.array(["x", "y"] * (count // 2))}
    table = pa.table([storage[name] for name in known], schema=known.arrow_schema)
    empty = pa.Table.from_pylist([dict.fromkeys(known)], schema=known.arrow_schema)
    datasets.Dataset(empty).save_to_disk(str(folder))  # which itself asks the network how large files in cells are
    (file,) = folder.glob("*.arrow")
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return folder


@pytest.mark.parametrize("name", ["list", "large", "inner", "deep", "image", "sound", "video"])
def test_no_address_and_no_path_in_a_saved_cell_is_followed(
    name: str, tmp_path: Path, opened: Callable[..., Dataset], offline: list[Any]
) -> None:
    datasets = pytest.importorskip("datasets")
    (tmp_path / "secret.png").write_bytes(b"secret")
    for place, path in (("address", ADDRESS), ("path", str(tmp_path / "secret.png"))):
        folder = _saved(tmp_path / place, {name: _nested(datasets)[name]}, {name: _cell(name, path)})
        assert opened(folder).summary.used == 20
        (table,) = registry.get("hugging_face")().tables(folder, DataOptions(path=str(folder)), shown="d")
        assert table.sample[0][name] == _cell(name, path)


def test_no_address_in_a_saved_detection_set_is_followed(tmp_path: Path, offline: list[Any]) -> None:
    datasets = pytest.importorskip("datasets")
    from tunesmith.data.box_readers.base import registry as box_registry

    objects = datasets.List({"bbox": datasets.List(datasets.Value("float32"), length=4),
                             "category": datasets.Value("string"), "crop": datasets.Image()})  # fmt: skip
    one = {"bbox": [1, 1, 5, 5], "category": "cat", "crop": {"bytes": None, "path": ADDRESS}}
    cells = {"image": _cell("image", ADDRESS), "objects": [one], "more": _cell("list", ADDRESS)}
    features = {"image": datasets.Image(), "objects": objects, "more": datasets.List(datasets.Image())}
    folder = _saved(tmp_path / "saved", features, cells)
    (table,) = box_registry.get("hugging_face")().tables(folder, DataOptions(path=str(folder)), shown="d")
    found = list(table.pictures)
    assert len(found) == 20
    assert all(one.picture is None and "URL" in one.reason and len(one.boxes) == 1 for one in found)


def test_arrow_files_outside_the_saved_folder_are_refused(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    pytest.importorskip("datasets")
    _saved(tmp_path / "other", {}, {})
    folder = _saved(tmp_path / "saved", {}, {})
    state = folder / "state.json"
    state.write_text(state.read_text().replace("data-00000", "../other/data-00000"))
    with pytest.raises(DataError, match="leads out of the folder"):
        opened(folder)


def test_json_in_a_saved_set_is_still_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    if not hasattr(datasets, "Json"):
        pytest.skip("this datasets has no Json")
    made = datasets.Dataset.from_dict({"text": ["a"], "more": [[{"b": 1}, {"c": "d"}]]}, on_mixed_types="use_json")
    made.save_to_disk(str(tmp_path / "saved"))
    (table,) = registry.get("hugging_face")().tables(tmp_path / "saved", DataOptions(path="d"), shown="d")
    assert table.sample[0]["more"] == [{"b": 1}, {"c": "d"}]


HARD = {
    "far": pa.array([0, 2**62, 0, 0] * 5, pa.timestamp("us")),
    "zone": pa.array([None, 1, None, None] * 5, pa.timestamp("us", tz="Nowhere/Bad")),
    "date": pa.array([0, 2**30, 0, 0] * 5, pa.date32()),
    "twice": pa.StructArray.from_arrays(
        [pa.array([1, 2, 3, 4] * 5)] * 2, ["a", "a"], mask=pa.array([True, False, True, True] * 5)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(HARD))
@pytest.mark.parametrize("saved", [False, True])
def test_a_value_that_python_cannot_hold_costs_its_own_row(
    name: str, saved: bool, tmp_path: Path, opened: Callable[..., Dataset]
) -> None:
    table = pa.table({"text": [f"t{i}" for i in range(20)], "label": ["x", "y"] * 10, "when": HARD[name]})
    if saved:
        datasets = pytest.importorskip("datasets")
        if name == "twice":
            pytest.skip("datasets refuses such a table")
        datasets.Dataset(table).save_to_disk(str(tmp_path / "a"))
    else:
        pq.write_table(table, tmp_path / "a")
    summary = opened(tmp_path / "a", max_bad_share=0.5).summary
    assert (summary.used, summary.quarantined) == (15, 5)
    rows = quarantined(tmp_path / "run")
    assert [row["line"] for row in rows] == [2, 6, 10, 14, 18]
    assert all("cannot be read" in row["reason"] for row in rows)


@pytest.mark.parametrize("saved", [False, True])
def test_a_value_that_python_cannot_hold_costs_its_own_picture(saved: bool, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    import datasets

    from tunesmith.data.box_readers.base import registry as box_registry

    objects = pa.array([[{"bbox": [1.0, 1.0, 5.0, 5.0], "category": "cat"}]] * 20)
    table = pa.table({"image": ["x.png"] * 20, "objects": objects, "when": HARD["far"]})
    path = tmp_path / ("saved" if saved else "a.parquet")
    if saved:
        datasets.Dataset(table).save_to_disk(str(path))
    else:
        pq.write_table(table, path)
    (read,) = box_registry.get("hugging_face")().tables(path, DataOptions(path=str(path)), shown="d")
    bad = [one.line for one in read.pictures if "OverflowError" in one.reason]
    assert bad == [2, 6, 10, 14, 18]


def test_parquet_files_of_two_forms_are_no_detection_set(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from tunesmith.data.box_readers.base import registry as box_registry

    objects = pa.array([[{"bbox": [1.0, 1.0, 5.0, 5.0], "category": "cat"}]])
    pq.write_table(pa.table({"image": ["x.png"], "objects": objects}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": ["x.png"]}), tmp_path / "b.parquet")
    tables = box_registry.get("hugging_face")().tables(tmp_path, DataOptions(path="d"), shown="d")
    with pytest.raises(DataError, match="other columns"):
        print([list(table.pictures) for table in tables])


@pytest.mark.parametrize("category", [False, True])
def test_a_small_file_that_says_one_long_text_often_does_not_fill_the_memory(category: bool, tmp_path: Path) -> None:
    text: Any = pa.array(["x" * 200_000] * 1024)
    if category:
        text = text.dictionary_encode()
    pq.write_table(pa.table({"text": text, "label": ["a", "b"] * 512}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 3_000
    pool, before = pa.default_memory_pool(), pa.total_allocated_bytes()
    tracemalloc.start()
    count = highest = 0
    (table,) = registry.get("parquet")().tables(tmp_path / "a.parquet", DataOptions(path="d"), shown="d")
    for row in table.rows:
        count += 1
        assert row.values is not None
        highest = max(highest, pool.bytes_allocated() - before)
    assert count == 1024
    assert tracemalloc.get_traced_memory()[1] < 40 << 20  # 16 MiB of sample, and a few rows
    tracemalloc.stop()
    assert highest < 40 << 20


def test_a_row_of_many_bytes_is_quarantined(
    tmp_path: Path, opened: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_arrow_rows, "PIECE", 100)
    monkeypatch.setattr(_arrow_rows, "LONGEST_ROW", 1000)
    texts = [f"text {i}" for i in range(19)] + ["x" * 2000]
    pq.write_table(pa.table({"text": texts, "label": ["a", "b"] * 10}), tmp_path / "a.parquet")
    summary = opened(tmp_path / "a.parquet", max_bad_share=0.5).summary
    assert (summary.used, summary.quarantined) == (19, 1)
    assert "at most 1,000 may be" in quarantined(tmp_path / "run")[0]["reason"]


def test_a_saved_set_that_is_cut_off_is_refused(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    pytest.importorskip("datasets")
    folder = _saved(tmp_path / "saved", {}, {})
    (file,) = folder.glob("*.arrow")
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError):
        opened(folder)


def test_dates_that_python_can_hold_stay_what_they_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"when": pa.array([0], pa.timestamp("us"))}), tmp_path / "a.parquet")
    (table,) = registry.get("parquet")().tables(tmp_path / "a.parquet", DataOptions(path="d"), shown="d")
    assert table.sample == ({"when": datetime(1970, 1, 1)},)


def _sizes(path: Path) -> list[int]:
    return [batch.num_rows for batch in _parquet_batches.batches(pq.ParquetFile(path), path)]


def test_short_rows_are_read_by_the_thousand_and_long_ones_by_the_few(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {number}" for number in range(5000)]}), path)
    assert max(_sizes(path)) == 1024
    long = ["x"] * 100 + ["x" * 200_000] * 400
    nested = pa.array([[{"a": text}] for text in long])
    for column in (pa.array(long), nested, pa.array(long).dictionary_encode()):
        pq.write_table(pa.table({"text": column}), path, compression="zstd")
        assert max(_sizes(path)) <= 32


def test_behind_a_heavy_batch_the_rest_is_read_by_the_few_and_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_parquet_batches, "HEAVY", 50_000)
    texts = [f"{number}" for number in range(1500)] + [f"{number}" * 50 for number in range(1500, 3000)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts}), path, use_dictionary=False, row_group_size=2900)
    found = list(_parquet_batches.batches(pq.ParquetFile(path), path))
    assert [text for batch in found for text in batch.column(0).to_pylist()] == texts
    sizes = [batch.num_rows for batch in found]
    assert sizes[:2] == [1024, 1024]
    assert max(sizes[2:-1]) <= 16


@pytest.mark.parametrize("nested", [False, True])
def test_a_row_that_shares_its_buffers_with_others_has_its_own_size(
    nested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_arrow_rows, "LONGEST_ROW", 5000)
    monkeypatch.setattr(_arrow_rows, "PIECE", 1000)
    texts = ["x" * 1000 + str(number) for number in range(100)]
    views: Any = pa.array([[text] for text in texts] if nested else texts,
                          pa.list_(pa.string_view()) if nested else pa.string_view())  # fmt: skip
    rows = list(_arrow_rows.rows_of(pa.table({"text": views})))
    assert [row["text"] for row, _ in rows if row] == ([[text] for text in texts] if nested else texts)

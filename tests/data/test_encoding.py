from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.data.encoding import decode, find_encoding, open_text, printable, wrong_bytes
from tunesmith.errors import DataError

Write = Callable[..., Path]

CHINESE = (
    "太平天国私人便章考，历史学；空间工作记忆负载影响真实场景搜索绩效的眼动研究。网络结构优化设计模型及遗传算法。" * 3
)
KOREAN = "이 영화는 정말 재미있고 배우들의 연기도 훌륭했습니다. 다시 보고 싶은 작품입니다. 음악도 좋았어요. " * 5
JAPANESE = "この映画はとても面白くて、俳優の演技も素晴らしかったです。もう一度見たい作品です。" * 5
RUSSIAN = "Этот фильм очень интересный, и актёры играли прекрасно. Хочу посмотреть ещё раз. " * 5
FRENCH = "Ce film était très intéressant, et les acteurs ont joué à merveille; déjà vu, mais ça va. " * 5


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (FRENCH.encode(), "utf-8"),
        (FRENCH.encode("utf-8-sig"), "utf-8-sig"),
        (CHINESE.encode("utf-16"), "utf-16"),
        (CHINESE.encode("utf-32"), "utf-32"),
        (("text,label\n" + CHINESE).encode("utf-16-le"), "utf-16-le"),
        (("text,label\n" + CHINESE).encode("utf-16-be"), "utf-16-be"),
        (CHINESE.encode("gb18030"), "gb18030"),
        (FRENCH.encode("cp1252"), "cp1252"),
        (FRENCH.encode("latin-1") + b"\x81", "latin-1"),
        (CHINESE.encode() + b"\xff" + CHINESE.encode(), "utf-8"),
        (b"caf\xe9s and d\xe9j\xe0 vu", "cp1252"),
        (b"plain ASCII", "utf-8"),
        (b"", "utf-8"),
    ],
)
def test_the_encoding_is_found_by_rule(raw: bytes, name: str, written: Write) -> None:
    assert find_encoding(written("a.csv", raw)).name == name


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(KOREAN, "euc_kr"), (JAPANESE, "euc_jp"), (JAPANESE, "shift_jis"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r")],
)
def test_what_cannot_be_told_is_refused_rather_than_garbled(text: str, encoding: str, written: Write) -> None:
    path = written("a.csv", text.encode(encoding))
    with pytest.raises(DataError, match=r"cannot be told.*data\.encoding"):
        find_encoding(path)
    assert decode(path.read_bytes(), path, encoding)[0] == text


def test_traditional_chinese_in_big5_is_not_taken_for_gb18030(written: Write) -> None:
    with pytest.raises(DataError, match="big5"):
        find_encoding(written("a.csv", ("這部電影非常有趣，演員的演技也很好，還想再看一次。" * 5).encode("big5")))


def test_the_first_wrong_byte_is_found_behind_the_first_piece(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.data.encoding.CHUNK", 7)
    found = find_encoding(written("a.csv", "añb".encode() * 20 + b"\xff" + "añb".encode() * 20))
    assert found.name == "utf-8"
    assert "byte 80 " in found.note


def test_undecodable_bytes_are_marked_and_can_be_shown(written: Write) -> None:
    with open_text(written("a.txt", b"ok \xff\xfe end"), "utf-8") as stream:
        text = stream.read()
    assert wrong_bytes(text) == [0xFF, 0xFE]
    assert printable(text) == "ok \\xff\\xfe end"


def test_an_unknown_encoding_gets_a_hint(written: Write) -> None:
    with pytest.raises(DataError, match='Did you mean "gb18030"'):
        find_encoding(written("a.csv", b"a"), "gb18300")
    with pytest.raises(DataError, match="no text encoding"):
        find_encoding(written("a.csv", b"a"), "base64")

"""Picture files of every kind become red, green and blue, or a fault in words; none costs more than it may."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tunesmith.pictures.decode import PictureFault, content_key, read_picture, size_of

BROKEN = Path(__file__).parents[2] / "../shared/data/broken/images"
BAD = BROKEN / "bad_files/train/a"
needs_broken = pytest.mark.skipif(not BROKEN.is_dir(), reason=f"no {BROKEN}")

COLOURS = np.array([[[250, 10, 20], [20, 240, 30], [30, 40, 230]], [[0, 0, 0], [255, 255, 255], [120, 130, 140]]], "u1")
"""2 x 3, all different: a wrong turn or swapped channels show."""


def encoded(picture: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photograph(side: int = 64) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return noise


def chunk(kind: bytes, data: bytes, *, fault: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ fault)


def png(width: int, height: int, rows: bytes, *, bits: int = 8, colour: int = 2, fault: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows), fault=fault)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def test_a_path_a_string_and_bytes_give_the_same_picture(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(COLOURS))
    for source in (file, str(file), file.read_bytes()):
        picture = read_picture(source)
        assert picture.dtype == np.uint8
        assert picture.flags.writeable
        np.testing.assert_array_equal(picture, COLOURS)
        assert size_of(source) == (3, 2)


def test_a_locator_reads_one_picture_out_of_many(tmp_path: Path) -> None:
    first, second = encoded(COLOURS), encoded(COLOURS[:, ::-1].copy())
    blob = tmp_path / "pictures.bin"
    blob.write_bytes(first + second)
    where = f"{blob}#bytes={len(first)}-{len(first) + len(second)}"
    np.testing.assert_array_equal(read_picture(where), COLOURS[:, ::-1])
    assert size_of(f"{blob}#bytes=0-{len(first)}") == (3, 2)
    with pytest.raises(PictureFault, match=r"outside pictures\.bin"):
        read_picture(f"{blob}#bytes=0-{len(first) + len(second) + 1}")
    with pytest.raises(PictureFault, match="does not exist"):
        read_picture(Path(where))  # a Path is a file's name, never a locator


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_is_turned_upright_as_pillow_turns_it(orientation: int, kind: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.repeat(np.repeat(COLOURS, 16, 0), 16, 1), kind, exif=exif)
    with Image.open(BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_picture(data), expected)
    assert size_of(data) == (expected.shape[1], expected.shape[0])


def test_the_exif_of_a_png_may_stand_behind_its_pixels() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encoded(COLOURS)
    data = plain[:-12] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\x00\x00")) + plain[-12:]
    np.testing.assert_array_equal(read_picture(data), np.rot90(COLOURS, -1))
    assert size_of(data) == (2, 3)


def test_size_is_read_without_decoding() -> None:
    assert size_of(png(5000, 4000, b"")) == (5000, 4000)  # it has no pixels to decode


def test_a_picture_larger_than_a_strip_is_converted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = photograph(50)
    transparent = np.concatenate([whole, np.full((50, 50, 1), 255, np.uint8)], axis=2)
    for strip in (1, 120, 1 << 22):
        monkeypatch.setattr("tunesmith.pictures.decode.STRIP", strip)
        np.testing.assert_array_equal(read_picture(encoded(whole)), whole)
        np.testing.assert_array_equal(read_picture(encoded(transparent)), whole)


def test_damaged_exif_leaves_the_picture_as_it_lies() -> None:
    data = encoded(COLOURS, "PNG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_picture(data), COLOURS)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bit_grey_is_scaled_not_clipped(order: str) -> None:
    values = np.array([[0, 128, 129, 257], [256 * 128, 40_000, 65_406, 65_535]], np.uint16)
    kind, data = ("PNG", encoded(values)) if order == ">u2" else ("TIFF", encoded(values, "TIFF"))
    picture = read_picture(data)
    expected = np.round(values / 257).astype(np.uint8)
    for channel in range(3):
        np.testing.assert_array_equal(picture[..., channel], expected, err_msg=kind)


def test_grey_of_unknown_white_is_refused() -> None:
    for kind in (np.float32, np.int32):
        with pytest.raises(PictureFault, match="32 bits"):
            read_picture(encoded(np.ones((4, 4), kind), "TIFF"))


def test_what_is_transparent_is_white() -> None:
    alpha = np.array([[255, 0, 255], [255, 255, 128]], np.uint8)[:, :, None]
    picture = read_picture(encoded(np.concatenate([COLOURS, alpha], axis=2)))
    expected = COLOURS.copy()
    expected[0, 1] = 255
    expected[1, 2] = [187, 192, 197]  # 128 / 255 of the colour on white
    np.testing.assert_allclose(picture.astype(int), expected, atol=1)


def test_a_palette_with_transparency_is_composited_on_white() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 255])
    np.testing.assert_array_equal(
        read_picture(encoded(image, transparency=1)), [[[10, 20, 30], [255, 255, 255], [0, 0, 255]]]
    )
    np.testing.assert_array_equal(read_picture(encoded(image)), [[[10, 20, 30], [200, 100, 50], [0, 0, 255]]])


def test_cmyk_grey_and_one_bit_become_rgb() -> None:
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 0] = 255  # cyan alone
    cyan = read_picture(encoded(Image.fromarray(ink, "CMYK"), "JPEG", quality=100))
    np.testing.assert_allclose(cyan[4, 4].astype(int), [0, 255, 255], atol=6)
    grey = read_picture(encoded(np.full((2, 2), 77, np.uint8)))
    np.testing.assert_array_equal(grey, np.full((2, 2, 3), 77))
    bits = read_picture(encoded(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")))
    np.testing.assert_array_equal(bits, [[[0] * 3, [255] * 3]])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    picture = read_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **lossless))
    np.testing.assert_array_equal(picture, np.broadcast_to([255, 0, 0], (8, 8, 3)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_file_that_is_cut_off_is_a_fault_in_every_format(kind: str, share: float) -> None:
    data = encoded(photograph(), kind)
    assert read_picture(data).shape == (64, 64, 3)
    with pytest.raises(PictureFault):
        read_picture(data[: int(share * len(data))])


def test_a_wrong_checksum_anywhere_in_a_png_is_a_fault() -> None:
    rows = b"".join(b"\x00" + row.tobytes() for row in COLOURS)
    np.testing.assert_array_equal(read_picture(png(3, 2, rows)), COLOURS)
    with pytest.raises(PictureFault, match="cannot be decoded"):
        read_picture(png(3, 2, rows, fault=1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"\n <!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of a known kind"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "begins like PNG"),
        (os.urandom(300), "."),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(PictureFault, match=reason):
        read_picture(data)
    with pytest.raises(PictureFault, match=reason):
        size_of(data)


def test_no_damage_to_a_file_raises_anything_but_a_fault() -> None:
    rng = np.random.default_rng(0)
    whole = [encoded(photograph(16), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")]
    refused = 0
    for data in whole * 40:
        damaged = bytearray(data)
        for place in rng.integers(len(data), size=4):
            damaged[place] = rng.integers(256)
        try:
            read_picture(bytes(damaged), max_pixels=10**6)
        except PictureFault as fault:
            refused += bool(str(fault))
    assert refused > 40


def test_what_is_no_file_is_a_fault_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PictureFault, match="no file"):
        read_picture(tmp_path / "pipe")
    with pytest.raises(PictureFault, match="no file"):
        read_picture(tmp_path)
    with pytest.raises(PictureFault, match="does not exist"):
        read_picture(str(tmp_path / "none.jpg"))
    with pytest.raises(PictureFault, match="cannot be opened"):
        read_picture("nul\x00byte.jpg")


def test_the_cap_holds_before_anything_is_decoded() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    data = png(3000, 3000, b"")  # a header and not one pixel: decoding it would be another fault
    with pytest.raises(PictureFault, match=r"3,000 x 3,000 = 9,000,000 pixels; at most 1,000,000"):
        read_picture(data, max_pixels=1_000_000)
    with pytest.raises(PictureFault, match="too many to decode"):
        read_picture(png(50_000, 50_000, b""))
    assert size_of(data) == (3000, 3000)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_bomb_of_20000_by_20000_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    squeeze = zlib.compressobj()
    rows = b"".join(squeeze.compress(b"\x00" * 2501) for _ in range(20_000)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    script = (
        "import resource, sys, time\n"
        "from tunesmith.pictures.decode import PictureFault, read_picture\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before, start = peak(), time.perf_counter()\n"
        "try: read_picture(sys.argv[1])\n"
        "except PictureFault: print(peak() - before, time.perf_counter() - start)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "bomb.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    more_mib, seconds = map(float, done.stdout.split())
    assert more_mib < 20  # decoded it would be 400
    assert seconds < 1


def test_equal_pixels_have_equal_keys_whatever_their_file() -> None:
    picture = photograph(8)
    assert content_key(read_picture(encoded(picture))) == content_key(read_picture(encoded(picture, "BMP")))
    assert len(content_key(picture)) == 8
    other = picture.copy()
    other[0, 0, 0] ^= 1
    flat = picture.reshape(4, 16, 3)
    assert len({content_key(each) for each in (picture, other, flat, picture[:, ::-1])}) == 4


SOUND = {
    "animated.gif": (120, 160), "cmyk.jpg": (120, 160), "exif_rotated.jpg": (160, 120), "gray.jpg": (120, 160),
    "image.webp": (120, 160), "one_pixel.png": (1, 1), "palette_transparent.png": (120, 160),
    "png_named.jpg": (120, 160), "rgba.png": (120, 160), "sixteen_bit.png": (120, 160), "thin_1x4000.png": (4000, 1),
}  # fmt: skip
FAULTY = {
    "bad_crc.png": "damaged", "huge_declared.png": "too many", "text_as_image.jpg": "HTML", "truncated.jpg": "cut off",
    "zero_bytes.jpg": "0 bytes",
}  # fmt: skip


@needs_broken
def test_every_bad_file_of_the_collection_ends_as_it_should() -> None:
    assert {file.name for file in BAD.iterdir()} == {*SOUND, *FAULTY}
    for name, shape in SOUND.items():
        picture = read_picture(BAD / name)
        assert picture.shape == (*shape, 3), name
        assert size_of(BAD / name) == shape[::-1], name
    for name, reason in FAULTY.items():
        with pytest.raises(PictureFault, match=reason):
            read_picture(BAD / name)


@needs_broken
def test_the_collections_kinds_show_the_same_scene() -> None:
    scene = read_picture(BAD / "png_named.jpg").astype(float)
    grey = scene @ [0.299, 0.587, 0.114]
    upright = np.rot90(scene, -1)
    near = {"cmyk.jpg": scene, "image.webp": scene, "animated.gif": scene, "exif_rotated.jpg": upright}
    for name, expected in near.items():
        assert np.abs(read_picture(BAD / name) - expected).mean() < 8, name
    for name in ("sixteen_bit.png", "gray.jpg"):
        assert np.abs(read_picture(BAD / name)[..., 0] - grey).mean() < 3, name


@needs_broken
def test_every_other_picture_of_the_collection_is_read() -> None:
    files = [file for file in BROKEN.rglob("*.jpg") if BAD not in file.parents]
    assert len(files) >= 15
    assert all(read_picture(file).shape == (120, 160, 3) for file in files)
    with pytest.raises(PictureFault, match="too many"):
        read_picture(BROKEN / "huge/train/a/huge.png")

"""A picture file becomes red, green and blue, or a fault in words.

Picture files come from anywhere, so nothing in them is trusted. Only formats that Pillow decodes by itself are opened
(no EPS, which would start Ghostscript). The size is taken from the header and held against a cap before a single pixel
is decoded: a file of 100 bytes may declare ten thousand million. A file that is cut off is a fault, never a picture
with a grey half; so is a PNG with a wrong checksum, which Pillow alone would let pass. (A JPEG whose inner data is
damaged while its end is there cannot be told from a sound one: the format has no checksums.)

What is legal is brought to one form, eight bits each of red, green and blue, as a person sees the picture:

- turned upright by its EXIF orientation (a camera held sideways says so there);
- a transparent picture lies on white;
- 16-bit grey is divided by 257, not clipped (65,535 becomes 255);
- CMYK, palettes and one-bit pictures are converted; of an animation the first frame is taken.

Grey of 32 bits, whole or floating, is refused: nothing says which value is white.

A picture inside a larger file is named by a *locator*, `PATH#bytes=START-END`: the bytes from START up to END, without
END.
"""

from __future__ import annotations

import re
import stat
import struct
from hashlib import blake2b
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 89_478_485
"""Most pixels decoded unless the caller says otherwise: Pillow's own bound (a quarter of a GiB as RGB)."""

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")

STRIP = 1 << 22  # pixels converted at a time

_MAGIC = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff", "GIF": b"GIF8", "WEBP or another RIFF": b"RIFF"}
_LOCATOR = re.compile(r"(?P<path>.+)#bytes=(?P<start>\d+)-(?P<end>\d+)", re.DOTALL)
_ORIENTATION = 0x0112  # the EXIF tag
_QUARTERS = {3: 2, 4: 2, 5: -1, 6: -1, 7: 1, 8: 1}  # EXIF orientation -> quarter turns to the left
_MIRRORED = (2, 4, 5, 7)  # flipped left to right after turning
_SIDEWAYS = (5, 6, 7, 8)  # width and height change places


class PictureFault(Exception):
    """A picture cannot be used; its text is the reason in words, for the quarantine."""


def read_picture(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture as uint8 [height, width, 3], red, green, blue, upright.

    source: a path, a locator `PATH#bytes=START-END` (str only), or the file's bytes. PictureFault for anything that is
    not a whole, sound picture of at most `max_pixels`.
    """
    with _stream(source) as stream:
        try:
            with _opened(stream, max_pixels) as image:
                if image.format == "PNG":
                    _check_sums(stream)
                    _keep_late_exif(stream, image)
                image.load()
                # After loading: Pillow turns TIFF by itself, and then says so by taking the tag away.
                orientation = _orientation(image)
                return _upright(_as_rgb(image), orientation)
        except (PictureFault, MemoryError):
            raise
        except Exception as error:  # Pillow's readers raise almost anything on hostile bytes
            raise PictureFault(_reason(error)) from error


def size_of(source: str | Path | bytes) -> tuple[int, int]:
    """Width and height in pixels of the upright picture, from the header alone. PictureFault where there is none."""
    with _stream(source) as stream:
        try:
            with _opened(stream, None) as image:
                width, height = image.size
                if image.format == "PNG":
                    _keep_late_exif(stream, image)
                # Pillow gives the size of a TIFF as it will be once turned.
                sideways = image.format != "TIFF" and _orientation(image) in _SIDEWAYS
                return (height, width) if sideways else (width, height)
        except (PictureFault, MemoryError):
            raise
        except Exception as error:
            raise PictureFault(_reason(error)) from error


def content_key(picture: np.ndarray) -> bytes:
    """8 bytes that are equal for equal pictures (blake2b over shape and pixels), whatever file they came from."""
    shape = ",".join(map(str, picture.shape)).encode()
    return blake2b(np.ascontiguousarray(picture).data, digest_size=8, key=shape).digest()


def _stream(source: str | Path | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return BytesIO(source)
    located = _LOCATOR.fullmatch(source) if isinstance(source, str) else None
    path = Path(located["path"] if located else source)
    try:
        # A pipe or a device would never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise PictureFault("this is no file")
        stream = path.open("rb")
    except FileNotFoundError as error:
        raise PictureFault("the file does not exist") from error
    except (OSError, ValueError) as error:
        raise PictureFault(f"the file cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    if not located:
        return stream
    with stream:
        start, end = int(located["start"]), int(located["end"])
        if not start <= end <= path.stat().st_size:
            raise PictureFault(f"bytes {start} to {end} lie outside {path.name}")
        stream.seek(start)
        return BytesIO(stream.read(end - start))


def _opened(stream: IO[bytes], max_pixels: int | None) -> Image.Image:
    """The picture with its header read and nothing decoded."""
    head = stream.read(64)
    stream.seek(0)
    if not head:
        raise PictureFault("the file is empty (0 bytes)")
    try:
        image = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise PictureFault(_what_else(head)) from error
    except Image.DecompressionBombError as error:
        bound = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise PictureFault(f"the picture has more than {bound:,} pixels, too many to decode") from error
    pixels = image.width * image.height
    if max_pixels is not None and pixels > max_pixels:
        image.close()
        size = f"{image.width:,} x {image.height:,} = {pixels:,}"
        raise PictureFault(f"the picture has {size} pixels; at most {max_pixels:,} are decoded")
    return image


def _check_sums(stream: IO[bytes]) -> None:
    """Hold every chunk of a PNG against its checksum; Pillow does not look at those of the pixels."""
    place = stream.tell()
    stream.seek(0)
    Image.open(stream, formats=("PNG",)).verify()
    stream.seek(place)


def _orientation(image: Image.Image) -> int:
    try:
        # Not a PNG's own getexif, which decodes the whole picture in search of it.
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing; the pixels are sound
        return 1


def _keep_late_exif(stream: IO[bytes], image: Image.Image) -> None:
    """Find the EXIF of a PNG, which may stand behind the pixels, without decoding these."""
    place = stream.tell()
    stream.seek(8)
    while len(head := stream.read(8)) == 8 and "exif" not in image.info:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            image.info["exif"] = b"Exif\x00\x00" + stream.read(length)
        else:
            stream.seek(length + 4, SEEK_CUR)
    stream.seek(place)


def _as_rgb(image: Image.Image) -> np.ndarray:
    """Converted in strips: a whole copy for each step would take five times the picture's memory."""
    if image.mode == "RGB" and not image.has_transparency_data and image.width * image.height <= STRIP:
        return np.array(image)  # what most pictures are
    picture = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(image.height, top + rows)))
        picture[top : top + rows] = _strip_as_rgb(strip, image.format)
    return picture


def _strip_as_rgb(image: Image.Image, kind: str | None) -> np.ndarray:
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        grey = np.asarray(image).astype(np.uint32)
        eight = ((grey + 128) // 257).astype(np.uint8)
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            eight[grey == transparent] = 255
        return eight[:, :, None]
    if image.mode in ("I", "F"):
        raise PictureFault("its grey has 32 bits, and nothing says which value is white; save it with 8 or 16 bits")
    if image.has_transparency_data:
        upper = image.convert("RGBA")
        lower = Image.new("RGBA", upper.size, "white")
        lower.alpha_composite(upper)
        image = lower
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    picture = np.rot90(picture, _QUARTERS.get(orientation, 0))
    return np.ascontiguousarray(picture[:, ::-1] if orientation in _MIRRORED else picture)


def _what_else(head: bytes) -> str:
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "the file is a page or drawing of text (HTML, XML or SVG), not a picture of pixels"
    for kind, magic in _MAGIC.items():
        if head.startswith(magic):
            return f"the file begins like {kind}, but its header is cut off or damaged"
    kinds = ", ".join(FORMATS)
    return f"the file is no picture of a known kind ({kinds}); it begins with {head[:12]!r}"


def _reason(error: Exception) -> str:
    if "truncated" in str(error).lower():
        return f"the picture is cut off or damaged ({error})"
    return f"the picture cannot be decoded ({str(error) or type(error).__name__})"

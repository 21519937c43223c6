"""Samples whose image, class, boxes or mask is damaged, odd or hostile: each case through one run, with its row.

A sample is a row whatever it holds; what cannot be used of it is a status and an error that name shard and member.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pytest
from PIL import Image
from small_runs import do_units
from tests_shards import jpeg, write_tar

from pipeline import manifest, shards
from pipeline.audit import audit
from pipeline.config import load_job
from pipeline.records import Sample
from pipeline.shards import read_unit

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
PHOTOGRAPH = jpeg(0, (40, 32))
DEEP_GREY = Image.fromarray(np.arange(32 * 40, dtype=np.uint16).reshape(32, 40) * 50)


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


PICTURE = Image.fromarray(PIXELS)
PNG = encode(PICTURE)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int) -> bytes:
    """A PNG file that says it is of this size, with next to no data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG file that says it is of this size."""
    start = PHOTOGRAPH.index(b"\xff\xc0")
    return PHOTOGRAPH[: start + 5] + struct.pack(">HH", height, width) + PHOTOGRAPH[start + 9 :]


def with_text_bomb() -> bytes:
    """A PNG file with a comment that unpacks to 64 MB."""
    end = PNG.index(b"IDAT") - 4
    return PNG[:end] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26))) + PNG[end:]


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(PICTURE, "JPEG", exif=exif)


def palette_with_alpha() -> bytes:
    return encode(Image.fromarray(PIXELS[..., 0]).convert("P"), transparency=bytes(range(256)))


class Case(NamedTuple):
    """Image, or all members by extension; the status; what the error says; the stored (width, height)."""

    given: bytes | dict[str, bytes]
    status: str = "ok"
    error: str = ""
    size: tuple[int, int] | None = (40, 32)


def undecodable(given: bytes | dict[str, bytes], error: str) -> Case:
    return Case(given, "undecodable", error, None)


def labelled(label: bytes, status: str = "ok", error: str = "") -> Case:
    return Case({"jpg": PHOTOGRAPH, "cls": label}, status, error)


def boxed(text: bytes, error: str) -> Case:
    return Case({"jpg": PHOTOGRAPH, "cls": b"0", "json": text}, "bad_boxes", error)


def masked(mask: bytes, status: str = "ok", error: str = "") -> Case:
    return Case({"jpg": PHOTOGRAPH, "cls": b"0", "mask.png": mask}, status, error)


CASES = {
    "cut-jpeg": undecodable(PHOTOGRAPH[:300], "cut-jpeg.jpg: "),
    "cut-jpeg-header": undecodable(PHOTOGRAPH[:10], "cut-jpeg-header.jpg: "),
    "cut-png": undecodable(PNG[: len(PNG) // 2], "cut-png.jpg: "),
    "zero-bytes": undecodable(b"", "zero-bytes.jpg: neither a JPEG nor a PNG file"),
    "a-web-page": undecodable(b"<html>403 Forbidden</html>", "neither a JPEG nor a PNG file"),
    "a-gif": undecodable(encode(PICTURE, "GIF"), "neither a JPEG nor a PNG file"),
    "a-moving-gif": undecodable(
        encode(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)]), "neither a JPEG nor a PNG file"
    ),
    "a-tiff": undecodable(encode(PICTURE, "TIFF"), "neither a JPEG nor a PNG file"),
    "a-bitmap": undecodable(encode(PICTURE, "BMP"), "neither a JPEG nor a PNG file"),
    "a-drawing": undecodable(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "neither a JPEG nor a PNG file"),
    "another-extension": undecodable({"gif": PNG, "cls": b"0"}, "no image member (jpg, jpeg, png)"),
    "no-image": undecodable({"cls": b"0", "json": b"{}"}, "no image member (jpg, jpeg, png)"),
    "no-width": undecodable(png_of(0, 5), "no-width.jpg: "),
    "a-bomb": undecodable(encode(Image.new("1", (20_000, 10_000))), "a-bomb.jpg: "),
    "a-claim-of-4-petapixels": undecodable(png_of(2**26, 2**26), "a-claim-of-4-petapixels.jpg: "),
    "a-claim-of-4-gigapixels": undecodable(jpeg_of(65_500, 65_500), "a-claim-of-4-gigapixels.jpg: "),
    "a-text-bomb": undecodable(with_text_bomb(), "a-text-bomb.jpg: "),
    "20000-wide": Case(encode(Image.new("RGB", (20_000, 20), "red")), size=(20_000, 20)),
    "one-pixel": Case(encode(Image.new("RGB", (1, 1), "red")), size=(1, 1)),
    "png-as-jpg": Case(PNG),
    "upper-case": Case({"JPG": PHOTOGRAPH, "CLS": b"0"}),
    "four-colours": Case(encode(PICTURE.convert("CMYK"), "JPEG")),
    "16-bit": Case(encode(DEEP_GREY)),
    "palette-with-alpha": Case(palette_with_alpha()),
    "moving-png": Case(encode(PICTURE, save_all=True, append_images=[PICTURE.rotate(180)])),
    "rotated-by-exif": Case(rotated()),  # stored pixels: boxes are in them
    "jpeg-and-more": Case(PHOTOGRAPH + b"trailing" * 100),
    "label-missing": Case({"jpg": PHOTOGRAPH}, "no_label", "no cls member"),
    "label-too-high": labelled(b"8", "bad_label", "label 8 is outside [0, 8)"),
    "label-below-0": labelled(b"-1", "bad_label", "label -1 is outside [0, 8)"),
    "label-no-integer": labelled(b"1.5", "bad_label", "no integer, or one of more than 32 bits"),
    "label-in-words": labelled(b"tench", "bad_label", "no integer"),
    "label-empty": labelled(b"", "bad_label", "no integer"),
    "label-with-underscore": labelled(b"0_1", "bad_label", "no integer"),
    "label-huge": labelled(b"9" * 60, "bad_label", "no integer"),
    "label-a-megabyte": labelled(b"1" * 2**20, "bad_label", "no integer"),
    "label-spaced": labelled(b" 3\n"),
    "box-inverted": boxed(b'{"boxes": [[9, 2, 3, 4]]}', "box 0 [9, 2, 3, 4] is inverted or empty (image 40 x 32)"),
    "box-of-three": boxed(b'{"boxes": [[9, 2, 3]]}', "box 0 [9, 2, 3] is not four finite numbers"),
    "box-outside": boxed(b'{"boxes": [[40, 0, 50, 4]]}', "wholly outside the image of 40 x 32"),
    "boxes-unpickled": boxed(b"\x80\x04\x95", "boxes-unpickled.json: "),
    "boxes-nested": boxed(b"[" * 100_000, "recursion"),
    "mask-of-another-size": masked(
        encode(Image.new("1", (32, 40))), "bad_boxes", "mask of 32 x 40 for an image of 40 x 32"
    ),
    "mask-no-image": masked(b"mask", "bad_boxes", "mask-no-image.mask.png: neither a JPEG nor a PNG file"),
    "mask-bomb": masked(png_of(2**20, 2**20), "bad_boxes", "mask-bomb.mask.png: "),
    "mask-empty": masked(encode(Image.new("1", (40, 32)))),
}


def members(name: str, case: Case) -> list[tuple[str, bytes]]:
    given = {"jpg": case.given, "cls": b"0"} if isinstance(case.given, bytes) else case.given
    return [(f"{name}.{extension}", data) for extension, data in given.items()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run over a shard of all cases."""
    folder = tmp_path_factory.mktemp("images")
    files = [file for name, case in CASES.items() for file in members(name, case)]
    fields = {
        "dataset.shards": [str(write_tar(folder / "x.tar", files))],
        "model.name": "networks:tiny",
        "methods": ["gradient"],
        "metrics": ["roc_auc"],
        "output.path": str(folder / "run"),
    }
    return do_units(load_job(None, fields))


@pytest.mark.parametrize("name", CASES)
def test_a_bad_sample_is_the_row_that_is_documented(run: Path, name: str) -> None:
    case = CASES[name]
    columns = "status, error, width, height, target, roc_auc"
    ((status, error, width, height, target, number),) = duckdb.sql(
        f"select {columns} from '{run}/metrics/**/*.parquet' where key = '{name}'"
    ).fetchall()
    assert (status, case.error in (error or "")) == (case.status, True), error
    assert (error or "x.tar: ").startswith("x.tar: ")
    assert "\n" not in (error or "")
    assert (None if width is None else (width, height)) == case.size
    if status != "ok":
        assert (target, number) == (None, None)


def test_every_sample_is_a_row(run: Path) -> None:
    result = audit(str(run))
    assert result.problems == []
    assert result.expected == len(CASES) == sum(result.statuses["networks:tiny / gradient"].values())


def read(folder: Path, files: list[tuple[str, bytes]]) -> list[Sample]:
    shard = str(write_tar(folder / "x.tar", files))
    found = manifest.build([shard], 64)
    return [sample for unit in found.units() for sample in read_unit(shard, found.rows(unit.id))]


@pytest.mark.parametrize(
    ("extension", "status"), [("png", "undecodable"), ("json", "bad_boxes"), ("mask.png", "bad_boxes")]
)
def test_a_member_of_too_many_bytes_is_not_read(
    extension: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_MEMBER_BYTES", len(PNG))
    large = {"png": PNG + b"\0", "json": b" " * len(PNG) + b"{}", "mask.png": PNG + b"\0"}
    files = {"png": PNG, extension: large[extension]}
    (sample,) = read(tmp_path, [(f"a.{name}", data) for name, data in files.items()])
    assert sample.status == status
    limit = f"{len(large[extension])} bytes; at most {len(PNG)} are read"
    assert sample.error == f"x.tar: a.{extension}: {limit}"
    assert (sample.image is None) == (extension == "png")


def test_only_documented_members_have_decoders() -> None:
    decode: Callable[[str, bytes], object] = shards._DECODER.decode1
    for extension in ("pyd", "pickle", "pkl", "pth", "npy", "npz", "ten", "mp", "msgpack", "cbor", "txt", "cls", "gz"):
        assert decode(extension, b"\x80\x04N.") == b"\x80\x04N."
    assert len(shards._DECODER.handlers) == 3

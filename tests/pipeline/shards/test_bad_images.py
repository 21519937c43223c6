"""Samples whose image, class, boxes or mask is damaged, odd or hostile: each case through one run, with its row.

A sample is a row whatever it holds; what cannot be used of it is a status and an error that name shard and member.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pytest
from PIL import Image
from small_runs import do_units
from tests_shards import jpeg, write_tar

from pipeline.checks.audit import audit
from pipeline.job.configuration import load_job
from pipeline.shards import manifest, reading
from pipeline.shards.reading import read_unit
from pipeline.shards.samples import Sample

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


def with_chunk(data: bytes) -> bytes:
    """A PNG file with one more chunk before its pixels."""
    end = PNG.index(b"IDAT") - 4
    return PNG[:end] + data + PNG[end:]


TEXT_BOMB = with_chunk(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26))))  # unpacks to 64 MB
LONG_TEXT = with_chunk(chunk(b"tEXt", b"parameters\0" + b"a cat, " * 2**18))
PROFILE_BOMB = with_chunk(chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2**26))))
WRONG_CHECKSUM = with_chunk(chunk(b"tEXt", b"Comment\0of a cat")[:-1] + b"?")
WRONG_CHECKSUM_OF_SIZE = PNG[:32] + bytes([PNG[32] ^ 1]) + PNG[33:]
CUT_IN_A_COMMENT = PNG[:-12] + chunk(b"tEXt", b"Comment\0" + b"cat " * 99)[:40]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
FRAMES = {"save_all": True, "append_images": [PICTURE.rotate(90)]}


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(PICTURE, "JPEG", exif=exif)


def palette_with_alpha() -> bytes:
    return encode(Image.fromarray(PIXELS[..., 0]).convert("P"), transparency=bytes(range(256)))


class Case(NamedTuple):
    """Image, or all members by extension; the status; what the error says; the stored (width, height); why there is
    no number of a metric of boxes."""

    given: bytes | dict[str, bytes]
    status: str = "ok"
    error: str = ""
    size: tuple[int, int] | None = (40, 32)
    excluded: str = "no boxes or mask"


def undecodable(given: bytes | dict[str, bytes], error: str) -> Case:
    return Case(given, "undecodable", error, None)


def labelled(label: bytes, status: str = "ok", error: str = "") -> Case:
    return Case({"jpg": PHOTOGRAPH, "cls": label}, status, error)


def boxed(text: bytes, excluded: str) -> Case:
    return Case({"jpg": PHOTOGRAPH, "cls": b"0", "json": text}, excluded=excluded)


def masked(mask: bytes, excluded: str) -> Case:
    return Case({"jpg": PHOTOGRAPH, "cls": b"0", "mask.png": mask}, excluded=excluded)


CASES = {
    "cut-jpeg": undecodable(PHOTOGRAPH[:300], "cut-jpeg.jpg: "),
    "cut-jpeg-header": undecodable(PHOTOGRAPH[:10], "cut-jpeg-header.jpg: "),
    "cut-png": undecodable(PNG[: len(PNG) // 2], "cut-png.jpg: "),
    "zero-bytes": undecodable(b"", "zero-bytes.jpg: empty"),
    "a-web-page": undecodable(b"<html>403 Forbidden</html>", "a web page (HTML)"),
    "a-pointer": undecodable(POINTER, "a Git LFS pointer, not the file: fetch it with git lfs pull"),
    "a-zip": undecodable(b"PK\x03\x04" + bytes(60), "a zip archive"),
    "a-drawing": undecodable(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no image; readable are JPEG, PNG, WebP"),
    "an-icon": undecodable(encode(PICTURE, "ICO"), "no image; readable are JPEG, PNG, WebP"),
    "floating-point": undecodable(encode(Image.fromarray(PIXELS[..., 0] / np.float32(255)), "TIFF"), "mode F"),
    "32-bit": undecodable(encode(Image.fromarray(PIXELS[..., 0].astype(np.int32) << 16), "TIFF"), "mode I"),
    "another-extension": undecodable({"pic": PNG, "cls": b"0"}, "gif); it has pic, cls"),
    "an-archive-within": undecodable({"tar": PNG, "cls": b"0"}, "packed files within a shard are not read"),
    "no-image": undecodable({"cls": b"0", "json": b"{}"}, "it has cls, json"),
    "mask-alone": undecodable({"cls": b"0", "mask.png": PNG}, "it has cls, mask.png"),
    "two-dots": undecodable(
        {"val.0.jpg": PNG, "val.0.cls": b"0", "val.1.jpg": PNG},
        "it has val.0.jpg, val.0.cls, val.1.jpg: a key ends at the first dot",
    ),
    "a-wrong-checksum-of-size": undecodable(WRONG_CHECKSUM_OF_SIZE, "a-wrong-checksum-of-size.jpg: "),
    "cut-webp": undecodable(encode(PICTURE, "WEBP")[:400], "cut-webp.jpg: "),
    "cut-gif": undecodable(encode(PICTURE, "GIF")[:400], "cut-gif.jpg: "),
    "no-width": undecodable(png_of(0, 5), "no-width.jpg: "),
    "a-bomb": undecodable(encode(Image.new("1", (20_000, 10_000))), "a-bomb.jpg: "),
    "a-claim-of-4-petapixels": undecodable(png_of(2**26, 2**26), "a-claim-of-4-petapixels.jpg: "),
    "a-claim-of-4-gigapixels": undecodable(jpeg_of(65_500, 65_500), "a-claim-of-4-gigapixels.jpg: "),
    "a-text-bomb": Case(TEXT_BOMB),
    "a-long-text": Case(LONG_TEXT),
    "a-profile-bomb": Case(PROFILE_BOMB),
    "a-wrong-checksum": Case(WRONG_CHECKSUM),
    "cut-in-a-comment": Case(CUT_IN_A_COMMENT),
    "a-gif": Case({"gif": encode(PICTURE, "GIF"), "cls": b"0"}),
    "a-moving-gif": Case(encode(PICTURE, "GIF", **FRAMES)),
    "a-webp": Case({"webp": encode(PICTURE, "WEBP"), "cls": b"0"}),
    "a-moving-webp": Case({"WEBP": encode(PICTURE, "WEBP", **FRAMES), "cls": b"0"}),
    "a-tiff": Case({"tif": encode(PICTURE, "TIFF"), "cls": b"0"}),
    "a-tiff-of-pages": Case({"TIFF": encode(PICTURE, "TIFF", compression="tiff_lzw", **FRAMES), "cls": b"0"}),
    "a-bitmap": Case({"bmp": encode(PICTURE, "BMP"), "cls": b"0"}),
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
    "label-no-integer": labelled(b"1.5", "bad_label", "not an integer of at most 32 bits"),
    "label-in-words": labelled(b"tench", "bad_label", "not an integer"),
    "label-empty": labelled(b"", "bad_label", "not an integer"),
    "label-with-underscore": labelled(b"0_1", "bad_label", "not an integer"),
    "label-huge": labelled(b"9" * 60, "bad_label", "not an integer"),
    "label-a-megabyte": labelled(b"1" * 2**20, "bad_label", "not an integer"),
    "label-spaced": labelled(b" 3\n"),
    "json-a-list": boxed(b"[1]", "the json member is no object with boxes"),
    "json-a-number": boxed(b"7", "the json member is no object with boxes"),
    "json-a-caption": boxed(b'"a cat"', "the json member is no object with boxes"),
    "json-empty": boxed(b"", "the json member is empty"),
    "json-no-json": boxed(b"\x80\x04\x95", "the json member is not JSON"),
    "json-nested": boxed(b"[" * 100_000, "the json member is not JSON"),
    "json-of-other-boxes": boxed(b'{"boxes": 3}', "boxes are not a list of [x0, y0, x1, y1]"),
    "json-of-another-wnid": boxed(b'{"wnid": 1440764}', "no boxes or mask"),
    "box-inverted": boxed(b'{"boxes": [[9, 2, 3, 4]]}', "a box is inverted or empty"),
    "box-of-three": boxed(b'{"boxes": [[9, 2, 3]]}', "a box is not four finite numbers"),
    "box-outside": boxed(b'{"boxes": [[40, 0, 50, 4]]}', "a box is wholly outside the image"),
    "box-of-fractions": boxed(b'{"boxes": [[0.1, 0.2, 0.5, 0.6]]}', "smaller than a pixel; are the boxes fractions?"),
    "box-of-all": boxed(b'{"boxes": [[0, 0, 1, 1]]}', "smaller than a pixel; are the boxes fractions?"),
    "box-sliver": boxed(b'{"boxes": [[9, 2, 9.5, 20]]}', "smaller than a pixel; are the boxes fractions?"),
    "box-lost-in-the-input": Case(
        {"jpg": jpeg(0, (400, 400)), "cls": b"0", "json": b'{"boxes": [[101, 101, 103, 103]]}'},
        size=(400, 400),
        excluded="object is smaller than a pixel of the input",
    ),
    "mask-of-another-size": masked(encode(Image.new("1", (32, 40))), "mask.png has another size than the image"),
    "mask-no-image": masked(b"mask", "mask.png is no image that can be read"),
    "mask-bomb": masked(png_of(2**20, 2**20), "mask.png is no image that can be read"),
    "mask-empty": masked(encode(Image.new("1", (40, 32))), "object is outside the input"),
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
        "metrics": ["gini", "roc_auc"],
        "output.path": str(folder / "run"),
    }
    return do_units(load_job(None, fields))


@pytest.mark.parametrize("name", CASES)
def test_a_bad_sample_is_the_row_that_is_documented(run: Path, name: str) -> None:
    case = CASES[name]
    columns = "status, error, width, height, target, gini, roc_auc, excluded['roc_auc']"
    ((status, error, width, height, target, gini, number, excluded),) = duckdb.sql(
        f"select {columns} from '{run}/metrics/**/*.parquet' where key = '{name}'"
    ).fetchall()
    assert (status, case.error in (error or "")) == (case.status, True), error
    assert (error or "x.tar: ").startswith("x.tar: ")
    assert "\n" not in (error or "")
    assert (None if width is None else (width, height)) == case.size
    if status == "ok":  # whatever is wrong with boxes
        assert number is None
        assert 0 <= gini <= 1
        assert case.excluded in excluded
    else:
        assert (target, gini, number) == (None, None, None)


def test_every_sample_is_a_row(run: Path) -> None:
    result = audit(str(run))
    assert result.problems == []
    assert result.expected == len(CASES) == sum(result.statuses["networks:tiny / gradient"].values())


def read(folder: Path, files: list[tuple[str, bytes]]) -> list[Sample]:
    shard = str(write_tar(folder / "x.tar", files))
    found = manifest.build([shard], 64)
    return [sample for unit in found.units() for sample in read_unit(shard, found.rows(unit.id))]


def test_of_several_frames_the_first_is_read(tmp_path: Path) -> None:
    files = [("a.gif", encode(PICTURE, "GIF", **FRAMES)), ("b.gif", encode(PICTURE, "GIF"))]
    files += [("c.tiff", encode(PICTURE, "TIFF", **FRAMES)), ("d.png", PNG)]
    files += [("e.webp", encode(PICTURE, "WEBP", lossless=True, **FRAMES)), ("f.bmp", encode(PICTURE, "BMP"))]
    files += [("g.png", encode(PICTURE, **FRAMES)), ("h.tif", encode(PICTURE, "TIFF", compression="tiff_deflate"))]
    a, b, *others = (np.asarray(sample.image) for sample in read(tmp_path, files))
    assert np.array_equal(a, b)  # of 256 colours both
    assert all(np.array_equal(other, PIXELS) for other in others)


def test_what_a_png_says_beside_its_pixels_changes_none(tmp_path: Path) -> None:
    given = [TEXT_BOMB, LONG_TEXT, PROFILE_BOMB, WRONG_CHECKSUM, CUT_IN_A_COMMENT]
    for sample in read(tmp_path, [(f"{number}.png", data) for number, data in enumerate(given)]):
        assert np.array_equal(np.asarray(sample.image), PIXELS), sample.error


def test_a_tiff_is_not_rotated_and_its_grey_keeps_its_scale(tmp_path: Path) -> None:
    grey = PIXELS[..., 0].astype(np.uint16)
    turned = encode(PICTURE, "TIFF", tiffinfo={274: 6})
    packed = encode(PICTURE, "TIFF", tiffinfo={274: 6}, compression="tiff_lzw")
    deep = encode(Image.fromarray(grey << 8), "TIFF")
    one, two, three = read(tmp_path, [("a.tif", turned), ("b.tif", packed), ("c.tif", deep)])
    assert np.array_equal(np.asarray(one.image), PIXELS)
    assert np.array_equal(np.asarray(two.image), PIXELS)
    assert np.array_equal(np.asarray(three.image), PIXELS[..., :1].repeat(3, -1))


def test_transparency_is_dropped_in_every_format(tmp_path: Path) -> None:
    alpha = Image.fromarray(np.dstack([PIXELS, np.full_like(PIXELS[..., 0], 200)]))
    files = [
        ("a.png", encode(alpha)),
        ("b.webp", encode(alpha, "WEBP", lossless=True)),
        ("c.tif", encode(alpha, "TIFF")),
    ]
    for sample in read(tmp_path, files):
        assert np.array_equal(np.asarray(sample.image), PIXELS)


@pytest.mark.parametrize("extension", ["png", "json", "mask.png"])
def test_a_member_of_too_many_bytes_is_not_read(
    extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_MEMBER_BYTES", len(PNG))
    large = {"png": PNG + b"\0", "json": b" " * len(PNG) + b"{}", "mask.png": PNG + b"\0"}
    files = {"png": PNG, extension: large[extension]}
    (sample,) = read(tmp_path, [(f"a.{name}", data) for name, data in files.items()])
    limit = f"{len(large[extension])} bytes; at most {len(PNG)} are read"
    if extension == "png":
        assert (sample.status, sample.error) == ("undecodable", f"x.tar: a.png: {limit}")
    else:
        assert (sample.status, sample.error) == ("ok", None)
        assert limit in ((sample.boxes_fault if extension == "json" else sample.mask_fault) or "")
    assert (sample.image is None) == (extension == "png")


def test_members_that_are_not_documented_are_not_read(tmp_path: Path) -> None:
    names = ("pyd", "pickle", "pkl", "pth", "npy", "npz", "ten", "mp", "msgpack", "cbor", "txt", "gz")
    (sample,) = read(tmp_path, [("a.png", PNG), *((f"a.{name}", b"\x80\x04N.") for name in names)])
    assert (sample.status, sample.boxes_fault, sample.mask_fault) == ("ok", None, None)
    assert [member.extension for member in reading._members_read(sample.row)] == ["png"]

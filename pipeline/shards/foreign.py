"""Recognises files of the wrong kind by their first bytes, and says what to do about them."""

from __future__ import annotations

import re

HEAD_BYTES = 512

_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\x00", "xz", "unxz"),
    (b"\x04\x22\x4d\x18", "lz4", "unlz4"),
    (b"\x1f\x9d", "compress", "uncompress"),
)
_ARCHIVES = (
    (b"PK\x03\x04", "a zip archive", "unzip"),
    (b"PK\x05\x06", "an empty zip archive", "unzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x"),
    (b"Rar!\x1a\x07", "a RAR archive", "unrar x"),
)
_IMAGES = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
)
_TABLES = (
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"SQLite format 3\x00", "an SQLite database"),
)
_POINTER = b"version https://git-lfs.github.com/spec"
_PACK = "ssig pack FOLDER --out shards"


def pointer(head: bytes) -> str | None:
    """What to do about a Git LFS pointer, in place of a file that was not fetched; None for other files."""
    return "a Git LFS pointer, not the file: fetch it with git lfs pull" if head.startswith(_POINTER) else None


def image_name(head: bytes) -> str | None:
    """The kind of image, with its article; None if it is not recognised."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1"):
        return "an AVIF or HEIF image"
    if head.startswith(b"BM") and head[6:10] != bytes(4):  # text may begin with these letters
        return None
    return next((name for magic, name in _IMAGES if head.startswith(magic)), None)


def no_shard(head: bytes) -> str | None:
    """What a file that is no tar seems to be, and what to do; None if it is not recognised.

    Args:
        head: its first `HEAD_BYTES`, or all of it.
    """
    if not head:
        return "empty file: fetch or write it again"
    if (image := image_name(head)) is not None:
        return f"{image}, not a tar archive: pack the folder of the images first ({_PACK})"
    for magic, name in _TABLES:
        if head.startswith(magic):
            return (
                f"{name}, not a tar archive: save its images as files, one folder per class, and pack them ({_PACK})"
            )
    return _foreign(head, "unpack it first")


def no_image(data: bytes, allowed: str) -> str:
    """What the bytes of an unreadable image seem to be.

    Args:
        data: all of them.
        allowed: the formats that are read.
    """
    if not data:
        return "empty: it has no bytes"
    head = data[:HEAD_BYTES]
    if (image := image_name(head)) is not None:
        return f"{image} that cannot be read; readable are {allowed}"
    return _foreign(head, "not an image") or f"no image; readable are {allowed}"


def _foreign(head: bytes, advice: str) -> str | None:
    for magic, name, command in _COMPRESSED:
        if head.startswith(magic):
            return f"compressed with {name}: {advice} ({command})"
    for magic, name, command in _ARCHIVES:
        if head.startswith(magic):
            return f"{name}: {advice} ({command})"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page (HTML), not the file: its address wants a login or another link"
    if text.startswith((b"<?xml", b"<error")):
        return "an XML text, not the file: perhaps a store's error"
    if re.match(rb'[\[{]\s*["\[{\]}]', text):
        return "a JSON text, not the file"
    return pointer(head)

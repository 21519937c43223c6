"""The tar pass: offsets as `tarfile` gives them, keys as WebDataset gives them, and every cut and oddity said."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

from pipeline.shards.tar_scan import Scan, scan

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
PLAIN = [("a.jpg", b"x" * 700), ("a.cls", b"3"), ("b.jpg", b"y" * 512), ("b.cls", b"")]


def pack(members: list[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def pack_infos(infos: list[tuple[tarfile.TarInfo, bytes]], **options: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as tar:  # type: ignore[call-overload]
        for info, data in infos:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def read(data: bytes) -> Scan:
    return scan(io.BytesIO(data))


def end_of(data: bytes) -> int:
    """Where the two closing zero blocks begin."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        last = tar.getmembers()[-1]
    return last.offset_data + -(-last.size // 512) * 512


NAMES = st.lists(
    st.builds(
        "{}/{}.{}".format,
        st.sampled_from([".", "n01/deep.er", "é" * 30, "long" * 40]),
        st.from_regex(r"[a-z0-9_é]{1,150}", fullmatch=True),
        st.sampled_from(["jpg", "JPEG", "cls", "mask.png"]),
    ),
    max_size=6,
    unique_by=str.lower,
)


@settings(max_examples=60, deadline=None)
@given(
    names=NAMES, sizes=st.lists(st.integers(0, 2000), min_size=6, max_size=6), format=st.sampled_from(["gnu", "pax"])
)
def test_members_lie_where_tarfile_finds_them(names: list[str], sizes: list[int], format: str) -> None:
    members = [(name, bytes([index]) * size) for index, (name, size) in enumerate(zip(names, sizes, strict=False))]
    data = pack(members, FORMATS[format])
    found = read(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(m.offset, m.size, m.header) for m in found.members] == [
            (info.offset_data, info.size, info.offset) for info in tar
        ]
    assert [data[m.offset : m.offset + m.size] for m in found.members] == [payload for _, payload in members]
    assert (found.skipped, found.damage) == ([], None)


@settings(max_examples=30, deadline=None)
@given(names=NAMES)
def test_keys_and_extensions_are_webdatasets(names: list[str]) -> None:
    data = pack([(name, b"1") for name in names])
    source = tar_file_expander([{"url": "x", "stream": io.BytesIO(data)}])
    theirs = [(sample["__key__"], ext) for sample in group_by_keys(source) for ext in sample if ext[:2] != "__"]
    assert sorted((member.key, member.extension) for member in read(data).members) == sorted(theirs)


@pytest.mark.parametrize("format", FORMATS)
def test_every_cut_is_seen_and_what_lies_before_it_kept(format: str) -> None:
    data = pack(PLAIN, FORMATS[format])
    whole = read(data).members
    end = end_of(data)
    for cut in [*range(0, end + 1024, 13), end, end + 511, end + 512, end + 513, end + 1023]:
        found = read(data[:cut])
        assert found.damage is not None, cut
        assert found.damage.last_good_offset <= cut
        assert found.members == [member for member in whole if member.offset + member.size <= cut]
    assert read(data[: end + 1024]).damage is None


def test_the_three_cuts_say_what_and_where() -> None:
    data = pack(PLAIN)
    members = read(data).members
    border = read(data[: members[2].header]).damage
    assert border is not None
    assert (border.last_good_offset, border.member) == (members[2].header, None)
    assert "member border" in border.reason

    header = read(data[: members[2].header + 100]).damage
    assert header is not None
    assert (header.last_good_offset, header.member) == (members[2].header, None)
    assert "inside a header: 100 of 512" in header.reason

    payload = read(data[: members[2].offset + 100]).damage
    assert payload is not None
    assert (payload.last_good_offset, payload.member) == (members[2].header, members[2])
    assert "payload of b.jpg: 100 of 512 bytes" in payload.reason


@pytest.mark.parametrize("position", [0, 100, 130, 150, 156, 257, 511])
def test_a_changed_header_byte_is_damage(position: int) -> None:
    data = bytearray(pack(PLAIN))
    header = read(bytes(data)).members[2].header
    data[header + position] ^= 0x15
    found = read(bytes(data))
    assert found.damage is not None
    assert found.damage.reason == "bad header checksum"
    assert found.damage.last_good_offset == header
    assert len(found.members) == 2


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=3000))
def test_noise_never_raises(data: bytes) -> None:
    assert read(data).damage is not None or not data.strip(b"\0")


@settings(max_examples=100, deadline=None)
@given(start=st.integers(0, 4000), noise=st.binary(min_size=1, max_size=600), format=st.sampled_from(list(FORMATS)))
def test_an_overwritten_stretch_never_raises(start: int, noise: bytes, format: str) -> None:
    data = pack([("é" * 120 + ".jpg" if format != "ustar" else "c.jpg", b"1"), *PLAIN], FORMATS[format])
    read(data[:start] + noise + data[start + len(noise) :])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file: fetch or write it again"),
        (b"noise" * 400, "not a tar archive"),
        (b"short", "cut inside a header: 5 of 512 bytes"),
        (b"\x1f\x8b\x08" + b"z" * 600, "compressed with gzip: unpack it first (gunzip)"),
        (b"\0" * 512, "one zero block where two end an archive"),
        (b"\0" * 512 + b"x" * 512, "one zero block where two end an archive"),
    ],
)
def test_what_is_no_archive(data: bytes, reason: str) -> None:
    found = read(data)
    assert found.damage is not None
    assert (found.members, found.damage.reason, found.damage.last_good_offset) == ([], reason, 0)


@pytest.mark.parametrize(
    ("start", "what", "advice"),
    [
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
        (b"BZh91AY&SY", "bzip2", "bunzip2"),
        (b"\xfd7zXZ\x00", "xz", "unxz"),
        (b"PK\x03\x04", "zip archive", "unzip"),
        (b"7z\xbc\xaf\x27\x1c", "7z archive", "7z x"),
        (b"PAR1", "Parquet", "type --images"),
        (b"\x89PNG\r\n\x1a\n", "PNG image", "type --images"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "WebP image", "type --images"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page", "login"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "XML", "error"),
        (b'{"message": "Not Found"}', "JSON", "not the file"),
    ],
)
@pytest.mark.parametrize("size", [0, 4096])
def test_a_file_of_another_kind_is_named_with_what_to_do(start: bytes, what: str, advice: str, size: int) -> None:
    found = read(start + b"x" * size)
    assert found.damage is not None
    assert what in found.damage.reason
    assert advice in found.damage.reason


LEAVINGS = """
    ._a.jpg n01/._a.jpg ./._n01 ._. .DS_Store n01/.DS_Store __MACOSX/._a.jpg __MACOSX/n01/b.jpg x/.AppleDouble/a.jpg
    n01/Thumbs.db n01/desktop.ini PaxHeaders.12/a.jpg n01/PaxHeaders/a.jpg ./PaxHeaders.X/a_cls n01/@eaDir/a.jpg
    n01/.ipynb_checkpoints/a-checkpoint.jpg .gitkeep n01/.gitkeep
""".split()  # noqa: SIM905


def test_what_systems_leave_is_no_member_and_not_skipped_either() -> None:
    names = [*LEAVINGS, "n01/a.jpg", "n01/a._b.cls", "paxheaders.jpg", "x._y/b.jpg"]
    found = read(pack([(name, b"1") for name in names]))
    assert [(member.key, member.extension) for member in found.members] == [
        ("n01/a", "jpg"), ("n01/a", "_b.cls"), ("paxheaders", "jpg"), ("x._y/b", "jpg"),
    ]  # fmt: skip
    assert (found.skipped, found.damage) == ([], None)


def test_a_hidden_file_in_a_folder_is_no_sample_of_the_folder() -> None:
    found = read(pack([("n01/.a.jpg", b"1"), ("n01/.jpg", b"1"), ("n01/b.jpg", b"1")]))
    assert [member.key for member in found.members] == ["n01/b"]
    assert {skipped.reason for skipped in found.skipped} == {"a name without key or without extension"}
    assert len(found.skipped) == 2


def test_odd_members_are_skipped_with_a_reason_and_directories_in_silence() -> None:
    infos = [
        (tarfile.TarInfo(name), b"1") for name in ("README", ".hidden", "__meta__", "a.", "a.__key__", "dir.x/.y")
    ]
    for name, kind in (("l.jpg", tarfile.SYMTYPE), ("h.jpg", tarfile.LNKTYPE), ("f.jpg", tarfile.FIFOTYPE)):
        info = tarfile.TarInfo(name)
        info.type = kind
        infos.append((info, b""))
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    vendor = tarfile.TarInfo("v.jpg")
    vendor.type = b"V"
    infos += [(folder, b""), (vendor, b"label"), (tarfile.TarInfo("good.jpg"), b"1")]
    found = read(pack_infos(infos, format=tarfile.GNU_FORMAT))
    assert [(member.key, member.extension) for member in found.members] == [("good", "jpg")]
    reasons = {skipped.name: skipped.reason for skipped in found.skipped}
    assert {name: reasons[name] for name in ("README", ".hidden", "dir.x/.y")} == dict.fromkeys(
        ["README", ".hidden", "dir.x/.y"], "a name without key or without extension"
    )
    assert reasons["__meta__"] == "a name of WebDataset's own metadata"
    assert reasons["a."] == reasons["a.__key__"] == "a name without a usable extension"
    assert reasons["l.jpg"] == reasons["h.jpg"] == "a link"
    assert reasons["f.jpg"] == reasons["v.jpg"] == "not a regular file"
    assert "folder" not in reasons
    assert found.damage is None


@pytest.mark.parametrize("format", ["gnu", "pax"])
def test_names_that_are_not_utf8_are_skipped(format: str) -> None:
    info = (tarfile.TarInfo(b"caf\xe9.jpg".decode("utf-8", "surrogateescape")), b"1")
    data = pack_infos(
        [info, (tarfile.TarInfo("b.jpg"), b"1")], format=FORMATS[format], encoding="utf-8", errors="surrogateescape"
    )
    found = read(data)
    assert [member.key for member in found.members] == ["b"]
    assert [(skipped.name, skipped.reason) for skipped in found.skipped] == [("caf?.jpg", "a name that is not UTF-8")]


def test_pax_global_and_size_records() -> None:
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = {"path": "n01/ü.JPG", "comment": "= and\nnew line"}
    data = pack_infos([(info, b"12345")], format=tarfile.PAX_FORMAT, pax_headers={"comment": "for all"})
    found = read(data)
    assert [(m.key, m.extension, data[m.offset : m.offset + m.size]) for m in found.members] == [
        ("n01/ü", "jpg", b"12345")
    ]


def test_a_malformed_pax_header_is_damage() -> None:
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = {"path": "b.jpg"}
    data = bytearray(pack_infos([(info, b"1")], format=tarfile.PAX_FORMAT))
    data[512:514] = b"99"
    found = read(bytes(data))
    assert found.damage is not None
    assert found.damage.reason == "malformed pax header"


def test_data_after_the_end_marker_is_told() -> None:
    data = pack(PLAIN)
    found = read(data + data)
    assert len(found.members) == len(PLAIN)
    assert [(skipped.offset, skipped.reason) for skipped in found.skipped] == [
        (end_of(data) + 1024, "data after the end-of-archive marker")
    ]


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program")
@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_sparse_files_are_skipped_and_what_follows_is_found(tmp_path: Path, format: str) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        for block in range(1, 40):  # more pieces than one old GNU header can tell
            file.seek(block * 2**17)
            file.write(b"x" * 4096)
    (tmp_path / "b.jpg").write_bytes(b"payload")
    subprocess.run(
        ["tar", "--sparse", f"--format={format}", "-cf", "s.tar", "a.jpg", "b.jpg"], cwd=tmp_path, check=True
    )
    data = (tmp_path / "s.tar").read_bytes()
    found = read(data)
    if len(data) > 2**20:
        pytest.skip("no holes on this file system")
    assert [(m.key, data[m.offset : m.offset + m.size]) for m in found.members] == [("b", b"payload")]
    assert [skipped.reason for skipped in found.skipped] == ["a sparse file"]


def test_payloads_are_kept_on_request() -> None:
    found = scan(io.BytesIO(pack(PLAIN)), keep=lambda extension, size: extension == "cls")
    assert [member.payload for member in found.members] == [None, b"3", None, b""]


def test_a_reader_that_gives_little_at_a_time_makes_no_difference() -> None:
    data = pack(PLAIN)

    class Trickle:
        def __init__(self) -> None:
            self.file = io.BytesIO(data)

        def read(self, size: int, /) -> bytes:
            return self.file.read(min(size, 7))

    assert scan(Trickle()) == read(data)


def test_the_whole_file_is_read_once_even_past_damage(tmp_path: Path) -> None:
    data = bytearray(pack(PLAIN) + os.urandom(5000))
    data[3] ^= 1
    file = io.BytesIO(bytes(data))
    scan(file)
    assert file.tell() == len(data)

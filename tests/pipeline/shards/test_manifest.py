"""The manifest: every sample once, every fault a row or a record, and the same content the same hash."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import tarfile
import uuid
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.driver.ending import shard_notes
from pipeline.shards import manifest, surveying
from pipeline.shards.changes import changes
from pipeline.shards.manifest import Manifest
from pipeline.shards.manifest_table import MANIFEST
from pipeline.shards.pack import write_tar
from pipeline.shards.samples import ManifestRow, Status
from pipeline.shards.survey import Kind
from pipeline.shards.tar_scan import scan
from pipeline.storage import open_storage
from ssig.errors import UsageError

HASHED = partial(surveying.survey, hashed=True)
PICTURE = b"\xff\xd8 picture " * 60
DEVELOPMENT = Path(os.environ.get("SSIG_DEV_SHARDS", Path(__file__).parents[4] / "shared" / "imagenet"))


def tar(path: Path, members: list[tuple[str, bytes]]) -> str:
    with path.open("wb") as file:
        write_tar(file, members)
    return str(path)


def samples(keys: str, *extensions: str) -> list[tuple[str, bytes]]:
    """Members of samples a, b, …: pictures, and class numbers that count from 0."""
    contents = {"jpg": PICTURE, "json": b"{}"}
    return [
        (f"{key}.{extension}", contents.get(extension, str(index).encode()))
        for index, key in enumerate(keys)
        for extension in extensions or ("jpg", "cls")
    ]


def rows(found: Manifest) -> list[ManifestRow]:
    return [row for unit in found.units() for row in found.rows(unit.id)]


def cut(path: str, size: int) -> None:
    with open(path, "r+b") as file:
        file.truncate(size)


def members(path: str) -> list[tuple[str, int, int, int]]:
    """Name, header, payload offset and size of each member."""
    with open(path, "rb") as file:
        return [(f"{m.key}.{m.extension}", m.header, m.offset, m.size) for m in scan(file).members]


def test_rows_units_and_labels(tmp_path: Path) -> None:
    shards = [tar(tmp_path / "x-0.tar", samples("abcde")), tar(tmp_path / "x-1.tar", samples("fg", "JPG", "cls"))]
    found = manifest.build(shards, unit_size=2)
    assert [unit.id for unit in found.units()] == [
        "000000-000000-000002",
        "000000-000002-000004",
        "000000-000004-000005",
        "000001-000000-000002",
    ]
    assert [unit.shard for unit in found.units()] == ["x-0.tar"] * 3 + ["x-1.tar"]
    assert len(found) == 7
    assert [(row.shard, row.index, row.key, row.label) for row in rows(found)] == [
        *(("x-0.tar", index, key, index) for index, key in enumerate("abcde")),
        ("x-1.tar", 0, "f", 0),
        ("x-1.tar", 1, "g", 1),
    ]
    assert {row.status for row in rows(found)} == {Status.OK}
    assert [member.extension for member in rows(found)[-1].members] == ["jpg", "cls"]
    assert found.unit_count == 4
    assert found.quarantine == ()
    with pytest.raises(KeyError):
        found.rows("000009-000000-000002")


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    unit_size=st.integers(1, 12),
    limit=st.none() | st.integers(1, 40),
    workers=st.integers(1, 5),
)
def test_units_part_the_first_samples(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], unit_size: int, limit: int | None, workers: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    shards = [tar(folder / f"{number}.tar", samples("abcdefghi"[:count])) for number, count in enumerate(counts)]
    found = manifest.build(shards, unit_size, limit, workers)
    everything = rows(manifest.build(shards, unit_size=64))
    strip = [(row.shard, row.index, row.key, row.members) for row in rows(found)]
    assert strip == [(row.shard, row.index, row.key, row.members) for row in everything[:limit]]
    assert all(0 < unit.stop - unit.start <= unit_size for unit in found.units())
    assert found.hash == manifest.build(shards, unit_size, limit, 1).hash


def test_labels_that_are_no_32_bit_integer_are_none(tmp_path: Path) -> None:
    texts = [b"7\n", b" 12 ", b"-1", b"cat", b"", b"1.5", b"99999999999", b"3" * 100]
    shard = tar(
        tmp_path / "x.tar", [(f"{index}.cls", text) for index, text in enumerate(texts)] + [("z.jpg", PICTURE)]
    )
    labels = [row.label for row in rows(manifest.build([shard], 64))]
    assert labels == [7, 12, -1, None, None, None, None, None, None]


def test_interleaved_members_make_one_sample(tmp_path: Path) -> None:
    shard = tar(tmp_path / "x.tar", samples("abc", "jpg") + samples("abc", "cls") + samples("abc", "json"))
    found = manifest.build([shard], 64)
    assert [(row.key, row.index, row.label) for row in rows(found)] == [("a", 0, 0), ("b", 1, 1), ("c", 2, 2)]
    assert all([m.extension for m in row.members] == ["jpg", "cls", "json"] for row in rows(found))
    assert found.quarantine == ()


def test_a_second_member_of_a_kind_opens_a_duplicate(tmp_path: Path) -> None:
    shard = tar(tmp_path / "x.tar", [*samples("ab"), ("a.JPG", PICTURE), ("a.cls", b"9"), ("a.json", b"{}")])
    found = manifest.build([shard], 64)
    first, _, again = rows(found)
    assert [(row.key, row.index, row.status, row.label) for row in rows(found)] == [
        ("a", 0, Status.OK, 0),
        ("b", 1, Status.OK, 1),
        ("a", 2, Status.DUPLICATE, 9),
    ]
    assert [member.extension for member in first.members] == ["jpg", "cls"]
    assert [member.extension for member in again.members] == ["jpg", "cls", "json"]
    assert again.error == f"x.tar: a: a second jpg of this key at offset {again.members[0].offset}"
    (record,) = found.quarantine
    assert (record.shard, record.kind, record.key, record.offset) == (
        "x.tar",
        Kind.DUPLICATE,
        "a",
        again.members[0].offset,
    )


def test_the_directory_belongs_to_the_key(tmp_path: Path) -> None:
    shard = tar(tmp_path / "x.tar", [("n1/a.jpg", PICTURE), ("n2/a.jpg", PICTURE), ("n1/a.mask.png", PICTURE)])
    found = rows(manifest.build([shard], 64))
    assert [(row.key, [m.extension for m in row.members]) for row in found] == [
        ("n1/a", ["jpg", "mask.png"]),
        ("n2/a", ["jpg"]),
    ]


def test_skipped_members_are_recorded(tmp_path: Path) -> None:
    shard = tar(tmp_path / "x.tar", [("README", b"text"), *samples("a")])
    (record,) = manifest.build([shard], 64).quarantine
    assert (record.kind, record.offset) == (Kind.SKIPPED, 0)
    assert record.reason == "README: a name without key or without extension"


def test_a_cut_in_a_payload_truncates_its_sample(tmp_path: Path) -> None:
    shard = tar(tmp_path / "x.tar", samples("abc"))
    name, header, offset, _ = members(shard)[4]
    assert name == "c.jpg"
    cut(shard, offset + 100)
    found = manifest.build([shard], 64)
    assert [(row.key, row.status) for row in rows(found)] == [("a", "ok"), ("b", "ok"), ("c", "truncated")]
    last = rows(found)[-1]
    assert last.members == ()
    assert last.error == (
        f"x.tar: c: cut inside the payload of c.jpg: 100 of {len(PICTURE)} bytes; last good offset {header}"
    )
    (record,) = found.quarantine
    assert (record.kind, record.key, record.offset) == (Kind.TRUNCATED, "c", header)


@pytest.mark.parametrize("into_header", [0, 100])
def test_a_cut_between_payloads_truncates_a_last_sample_that_lacks_members(tmp_path: Path, into_header: int) -> None:
    shard = tar(tmp_path / "x.tar", samples("abc"))
    name, header, _, _ = members(shard)[5]
    assert name == "c.cls"
    cut(shard, header + into_header)
    found = manifest.build([shard], 64)
    assert [(row.key, row.status) for row in rows(found)] == [("a", "ok"), ("b", "ok"), ("c", "truncated")]
    assert [member.extension for member in rows(found)[-1].members] == ["jpg"]
    assert f"last good offset {header}" in str(rows(found)[-1].error)
    (record,) = found.quarantine
    assert (record.kind, record.key, record.offset) == (Kind.TRUNCATED, "c", header)


@pytest.mark.parametrize("into_header", [0, 100])
def test_a_cut_between_samples_leaves_the_last_one_whole(tmp_path: Path, into_header: int) -> None:
    shard = tar(tmp_path / "x.tar", samples("abc"))
    header = members(shard)[4][1]
    cut(shard, header + into_header)
    found = manifest.build([shard], 64)
    assert [(row.key, row.status) for row in rows(found)] == [("a", "ok"), ("b", "ok")]
    (record,) = found.quarantine
    assert (record.kind, record.key, record.offset) == (Kind.TRUNCATED, None, header)


def test_a_bad_header_half_way_ends_the_shard_there(tmp_path: Path) -> None:
    shard = tar(tmp_path / "x.tar", samples("abc"))
    header = members(shard)[2][1]
    with open(shard, "r+b") as file:
        file.seek(header + 20)
        file.write(b"\xff")
    found = manifest.build([shard], 64)
    assert [row.key for row in rows(found)] == ["a"]
    assert [(record.kind, record.offset) for record in found.quarantine] == [(Kind.TRUNCATED, header)]


def test_shards_that_cannot_be_read_are_recorded(tmp_path: Path) -> None:
    good = tar(tmp_path / "good.tar", samples("a"))
    noise, empty, hollow = (str(tmp_path / name) for name in ("noise.tar", "empty.tar", "hollow.tar"))
    Path(noise).write_bytes(b"not a tar" * 200)
    Path(empty).touch()
    tar(Path(hollow), [])
    shards = [noise, empty, hollow, str(tmp_path / "gone.tar"), str(tmp_path), good]
    found = manifest.build(shards, 64)
    assert [unit.id for unit in found.units()] == ["000005-000000-000001"]
    assert {record.shard: (record.kind, record.reason) for record in found.quarantine} == {
        "noise.tar": (Kind.UNREADABLE, "not a tar archive"),
        "empty.tar": (Kind.UNREADABLE, "empty file: fetch or write it again"),
        "hollow.tar": (Kind.UNREADABLE, "no samples: an archive without files"),
        "gone.tar": (Kind.UNREADABLE, "no such file"),
        tmp_path.name: (Kind.UNREADABLE, "no such file"),
    }
    with pytest.raises(UsageError, match=r"dataset.shards: found 'noise.tar: not a tar archive"):
        manifest.build(shards[:3], 64)


def test_a_shard_without_images_is_told_once(tmp_path: Path) -> None:
    dotted = tar(
        tmp_path / "dotted.tar", [(f"ILSVRC.val.{n}.{end}", b"1") for n in range(9) for end in ("jpg", "cls")]
    )
    bare = tar(tmp_path / "bare.tar", [("a.txt", b"1"), ("b.txt", b"2")])
    good = tar(tmp_path / "good.tar", [*samples("a"), ("b.txt", b"1")])
    found = manifest.build([bare, dotted, good], 64)
    assert len(found) == 5
    records = {record.shard: record for record in found.quarantine}
    assert {record.kind for record in records.values()} == {Kind.IMAGELESS}
    assert records.keys() == {"bare.tar", "dotted.tar"}
    assert records["bare.tar"].reason.endswith("it has txt")
    for words in ("no sample has an image", "it has val.0.jpg, val.0.cls, val.1.jpg", "a key ends at the first dot"):
        assert words in records["dotted.tar"].reason
    assert [note.partition(":")[0] for note in shard_notes(found)] == ["bare.tar", "dotted.tar"]


def test_shards_of_which_none_is_a_tar_are_refused_by_their_beginnings(tmp_path: Path) -> None:
    good = tar(tmp_path / "good.tar", samples("a"))
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b" + b"x" * 10_000)
    (tmp_path / "b.tar").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    bad = [str(tmp_path / "a.tar"), str(tmp_path / "b.tar")]
    surveying.check_readable([*bad, good])
    tar(tmp_path / "hollow.tar", [])
    surveying.check_readable([*bad, str(tmp_path / "hollow.tar")])  # which the whole reading tells
    with pytest.raises(UsageError, match=r"'a\.tar: compressed .*gunzip.*; b\.tar: a Git LFS pointer.*git lfs pull"):
        surveying.check_readable(bad)


@pytest.mark.skipif(os.getuid() == 0, reason="the superuser may read everything")
def test_a_shard_without_permission_is_recorded(tmp_path: Path) -> None:
    shards = [tar(tmp_path / f"{name}.tar", samples("a")) for name in "xy"]
    os.chmod(shards[0], 0)
    (record,) = manifest.build(shards, 64).quarantine
    assert (record.shard, record.kind) == ("x.tar", Kind.UNREADABLE)
    assert "ermission" in record.reason


def test_a_storage_that_does_not_answer_begins_no_run_without_the_shard(tmp_path: Path) -> None:
    """Linux gives EIO for the first bytes of a process's memory, as a file system does whose server is away."""
    (tmp_path / "away.tar").symlink_to("/proc/self/mem")
    shards = [tar(tmp_path / "x.tar", samples("a")), str(tmp_path / "away.tar")]
    with pytest.raises(OSError, match=r"no run is begun without it.*away\.tar"):
        manifest.build(shards, 64)


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_saving_and_loading_keep_everything(tmp_path: Path, kind: str) -> None:
    shards = [tar(tmp_path / f"{name}.tar", [*samples("ab"), ("a.jpg", b""), ("ü", b"")]) for name in "xy"]
    cut(shards[1], members(shards[1])[3][2])
    built = manifest.build(shards, 2)
    storage = open_storage(tmp_path / "run" if kind == "local" else f"memory://{uuid.uuid4().hex}/run")
    assert built.save(storage)
    assert not built.save(storage)
    loaded = manifest.load(storage)
    assert loaded.hash == built.hash
    assert (loaded.shards, loaded.quarantine) == (built.shards, built.quarantine)
    assert rows(loaded) == rows(built)
    with storage.open(manifest.FILE) as file:
        assert pq.read_schema(file).equals(MANIFEST)
    storage.put(manifest.FILE, b"PAR1 damaged")
    with pytest.raises(UsageError, match=r"manifest\.parquet"):
        manifest.load(storage)


def test_damage_among_the_rows_is_found_when_they_are_read(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    manifest.build([tar(tmp_path / "x.tar", samples("ab"))], 64).save(storage)
    data = bytearray(storage.read(manifest.FILE))
    data[4:40] = bytes(36)  # the first page of the units
    storage.put(manifest.FILE, bytes(data))
    with pytest.raises(UsageError, match=r"manifest\.parquet"):
        list(manifest.load(storage).units())


class Failing(io.BytesIO):
    """A file whose storage stops answering."""

    fails = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


def test_a_storage_that_fails_among_the_rows_is_no_damage(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    manifest.build([tar(tmp_path / "x.tar", samples("ab"))], 64).save(storage)
    file = Failing(storage.read(manifest.FILE))
    loaded = Manifest(file, "run")
    file.fails = True
    with pytest.raises(OSError, match="Input/output error") as caught:
        loaded.rows("000000-000000-000002")
    assert caught.value.errno == errno.EIO


def test_other_parquet_is_no_manifest(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    manifest.build([tar(tmp_path / "x.tar", samples("ab"))], 64).save(storage)
    path = tmp_path / manifest.FILE
    pq.write_table(pq.read_table(path).drop(["error"]), path)
    with pytest.raises(UsageError, match="columns"):
        manifest.load(storage)


@pytest.mark.parametrize("layout", [{"row_group_size": 1}, {"row_group_size": 3}, {"compression": "zstd"}])
def test_how_the_rows_are_stored_is_no_matter(tmp_path: Path, layout: dict[str, int | str]) -> None:
    storage = open_storage(tmp_path)
    shards = [tar(tmp_path / f"{name}.tar", [*samples("abcde"), ("f.jpg", b"")]) for name in "xy"]
    built = manifest.build(shards, 4)
    built.save(storage)
    table = pq.read_table(tmp_path / manifest.FILE)
    pq.write_table(table, tmp_path / manifest.FILE, **layout)
    loaded = manifest.load(storage)
    assert loaded.hash == built.hash
    assert [unit.id for unit in loaded.units()] == [unit.id for unit in built.units()]
    assert rows(loaded) == rows(built)


def test_the_hash_of_recorded_runs_stays(tmp_path: Path) -> None:
    shards = [tar(tmp_path / f"{name}.tar", [*samples("ab"), ("a.jpg", b""), ("ü", b"")]) for name in "xy"]
    cut(shards[1], members(shards[1])[3][2])
    assert (
        manifest.build(shards, 2, by=HASHED).hash == "eb79d2ac5a9438589550585205c10e99a13fd6ad3edb6bba5bfc2c50536f2278"
    )


def test_the_hash_is_of_the_content_alone(tmp_path: Path) -> None:
    base = manifest.build([tar(tmp_path / "x.tar", samples("ab"))], 64, by=HASHED).hash
    other = tmp_path / "elsewhere"
    other.mkdir()
    assert manifest.build([tar(other / "x.tar", samples("ab"))], 64, by=HASHED).hash == base
    different = {
        manifest.build([tar(other / "y.tar", samples("ab"))], 64, by=HASHED).hash,
        manifest.build([tar(other / "x.tar", samples("ac"))], 64, by=HASHED).hash,
        manifest.build([tar(other / "x.tar", [*samples("ab")[:-1], ("b.cls", b"2")])], 64, by=HASHED).hash,
        manifest.build([tar(other / "x.tar", samples("ab"))], 1, by=HASHED).hash,
        manifest.build([tar(other / "x.tar", samples("ab"))], 64, limit=1, by=HASHED).hash,
        manifest.build([tar(other / "x.tar", [("a.jpg", PICTURE[::-1]), *samples("ab")[1:]])], 64, by=HASHED).hash,
    }
    assert len(different | {base}) == 7


def test_shards_are_hashed_again_only_if_their_version_changed(tmp_path: Path) -> None:
    shard = tar(tmp_path / "x.tar", samples("ab"))
    found = manifest.build([shard], 64, by=HASHED)
    assert changes(found.shards) == []

    os.utime(shard, ns=(1, 1))
    assert changes(found.shards) == []  # same bytes

    _, _, offset, _ = members(shard)[0]
    with open(shard, "r+b") as file:
        file.seek(offset)
        file.write(b"changed")
    (line,) = changes(found.shards)
    assert line.startswith(f"x.tar: sha256: recorded {found.shards[0].sha256}, found ")

    version = int(found.shards[0].version)
    os.utime(shard, ns=(version, version))
    assert changes(found.shards) == []  # taken at its word: same size and time

    cut(shard, 1024)
    assert changes(found.shards) == [f"x.tar: size: recorded {found.shards[0].size}, found 1024"]
    os.unlink(shard)
    (line,) = changes(found.shards)
    assert "found no file" in line


def test_without_a_hash_another_time_of_change_counts_unless_the_shards_are_trusted(tmp_path: Path) -> None:
    shard = tar(tmp_path / "x.tar", samples("ab"))
    found = manifest.build([shard], 64)
    assert found.shards[0].sha256 is None
    assert changes(found.shards) == []
    os.utime(shard, ns=(1, 1))
    (line,) = changes(found.shards)
    assert line.startswith(f"x.tar: version: recorded {found.shards[0].version}, found 1;")
    assert "--trust-shards" in line
    assert changes(found.shards, trusted=True) == []
    cut(shard, 1024)
    (line,) = changes(found.shards, trusted=True)
    assert line.startswith("x.tar: size:")


def test_shards_in_an_object_store_are_known_by_etag(tmp_path: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}/shards"
    storage = open_storage(root)
    data = Path(tar(tmp_path / "x.tar", samples("ab"))).read_bytes()
    storage.put("x.tar", data)
    found = manifest.build([f"{root}/x.tar"], 64)
    assert [row.key for row in rows(found)] == ["a", "b"]
    assert found.shards[0].sha256 is None
    assert changes(found.shards) == []
    storage.put("x.tar", data)
    (line,) = changes(found.shards)
    assert line.startswith("x.tar: version: recorded ")


PEAK = """
import re, sys
from pathlib import Path
from pipeline.shards import manifest
found = manifest.build([sys.argv[1]] * int(sys.argv[2]), 64)
found.hash
assert sum(len(found.rows(unit.id)) for unit in found.units()) == len(found) == 1000 * int(sys.argv[2])
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    shard = tar(tmp_path / "x.tar", [(f"{number:08d}.cls", b"7") for number in range(1000)])
    few, many = (
        int(subprocess.run([sys.executable, "-c", PEAK, shard, count], check=True, capture_output=True).stdout)
        for count in ("20", "120")
    )
    assert many - few < 16_000  # kB; all rows in one Arrow table take twice as much


@pytest.mark.data
@pytest.mark.skipif(not DEVELOPMENT.is_dir(), reason="the development shards are not here")
def test_the_development_shards() -> None:
    shards = sorted(str(path) for path in DEVELOPMENT.glob("*.tar"))
    found = manifest.build(shards, 64, workers=2)
    assert len(found) == 500
    assert found.unit_count == len(shards) == 10
    assert found.quarantine == ()
    for unit in found.units():
        with open(shards[unit.shard_ordinal], "rb") as file, tarfile.open(fileobj=file) as reference:
            names = {info.offset_data: (info.name, info.size) for info in reference}
            for row in found.rows(unit.id):
                assert row.status == Status.OK
                assert row.label is not None
                assert 0 <= row.label < 1000
                assert [member.extension for member in row.members] == ["jpg", "cls", "json"]
                assert all(names[m.offset] == (f"{row.key}.{m.extension}", m.size) for m in row.members)
                file.seek(row.members[0].offset)
                assert file.read(3) == b"\xff\xd8\xff"

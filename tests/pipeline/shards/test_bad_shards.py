"""Shards that are damaged, odd or hostile: each case through a whole run, with the rows and records that it leaves.

One run attributes all cases, each a shard of its own; what is asked of it is what a person would look at: the rows of
the shard, the quarantine records, the audit, the exit code, and that nothing was written outside of the run.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import do_units
from tests_shards import jpeg
from webdataset.tariterators import base_plus_ext

from pipeline.checks.audit import audit
from pipeline.driver.ending import finish
from pipeline.driver.progress import Progress, silent
from pipeline.job.configuration import load_job
from pipeline.run.directory import RunDirectory
from pipeline.shards import manifest
from pipeline.shards.reading import read_unit
from pipeline.shards.samples import Status
from pipeline.storage import open_storage
from ssig.errors import UsageError

A, B = jpeg(0, (40, 32)), jpeg(1, (40, 32))
FILES = [("a.jpg", A), ("a.cls", b"0"), ("b.jpg", B), ("b.cls", b"1")]


class Trap:
    """Unpickled, it makes a folder."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.mkdir, (str(Path("sprung").absolute()),)


def tar(files: Iterable[tuple[str, bytes]] = FILES, **options: Any) -> bytes:
    return special([(tarfile.TarInfo(name), data) for name, data in files], **options)


def special(infos: Iterable[tuple[tarfile.TarInfo, bytes]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **{"format": tarfile.GNU_FORMAT, **options}) as archive:
        for info, data in infos:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def header_of(data: bytes, name: str) -> int:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmember(name).offset


def cut(name: str, further: int) -> bytes:
    return tar()[: header_of(tar(), name) + further]


def with_info(name: str, kind: bytes, **fields: Any) -> bytes:
    """A member of another kind before two whole samples."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return special([(info, b""), *((tarfile.TarInfo(name), data) for name, data in FILES)])


def with_pax(payload: bytes) -> bytes:
    """Two whole samples behind a pax header with this payload."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(payload)
    return info.tobuf(tarfile.USTAR_FORMAT) + payload + b"\0" * (-len(payload) % 512) + tar()


def record(keyword: str, value: str) -> bytes:
    """A record of a pax header: its length, which counts itself, and what it says."""
    rest = f" {keyword}={value}\n".encode()
    length = next(n for n in range(len(rest), len(rest) + 9) if n == len(str(n)) + len(rest))
    return str(length).encode() + rest


def negative_size() -> bytes:
    data, start = bytearray(tar()), header_of(tar(), "b.jpg")
    data[start + 124 : start + 136] = b"\xff" * 11 + b"\xfe"
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = f"{sum(data[start : start + 512]):06o}\0 ".encode()
    return bytes(data)


def flipped(name: str, position: int) -> bytes:
    data = bytearray(tar())
    data[header_of(tar(), name) + position] ^= 0x15
    return bytes(data)


class Case(NamedTuple):
    """A shard, the (key, status) of its rows, the (kind, word) of its quarantine records, a word of its errors."""

    data: bytes
    rows: list[tuple[str, str]]
    records: tuple[tuple[str, str], ...] = ()
    error: str = ""


BOTH = [("a", "ok"), ("b", "ok")]
CASES = {
    "cut-on-a-border": Case(cut("b.jpg", 0), [("a", "ok")], (("truncated", "cut on a member border"),)),
    "cut-inside-a-sample": Case(
        cut("b.cls", 0),
        [("a", "ok"), ("b", "truncated")],
        (("truncated", "cut on a member border"),),
        "last good offset",
    ),
    "cut-in-a-header": Case(cut("b.jpg", 100), [("a", "ok")], (("truncated", "inside a header: 100 of 512"),)),
    "cut-in-a-payload": Case(
        cut("b.jpg", 600), [("a", "ok"), ("b", "truncated")], (("truncated", "payload of b.jpg: 88 of"),), "b.jpg"
    ),
    "cut-in-the-first-payload": Case(cut("a.jpg", 600), [("a", "truncated")], (("truncated", "payload of a.jpg"),)),
    "no-end-marker": Case(tar()[: header_of(tar(), "b.cls") + 1024], BOTH, (("truncated", "no end-of-archive"),)),
    "half-an-end-marker": Case(
        tar()[: header_of(tar(), "b.cls") + 1536], BOTH, (("truncated", "one zero block where two"),)
    ),
    "noise": Case(
        b"\xff\xd8\xff" * 400, [], (("unreadable", "a JPEG image, not a tar archive: type --images FOLDER"),)
    ),
    "empty": Case(b"", [], (("unreadable", "empty file"),)),
    "hollow": Case(tar([]), [], (("unreadable", "no samples"),)),
    "gzip": Case(gzip.compress(tar()), [], (("unreadable", "compressed with gzip: unpack it first"),)),
    "trailing-data": Case(tar() + tar(), BOTH, (("skipped", "data after the end-of-archive marker"),)),
    "a-flipped-header": Case(flipped("b.jpg", 20), [("a", "ok")], (("truncated", "bad header checksum"),)),
    "a-negative-size": Case(
        negative_size(), [("a", "ok")], (("truncated", "impossible size in the header of 'b.jpg'"),)
    ),
    "absolute-names": Case(
        tar([(f"/etc/{name}", data) for name, data in FILES]), [("/etc/a", "ok"), ("/etc/b", "ok")]
    ),
    "names-that-climb": Case(
        tar([(f"../../{name}", data) for name, data in FILES]), [("../../a", "ok"), ("../../b", "ok")]
    ),
    "a-symbolic-link": Case(
        with_info("c.jpg", tarfile.SYMTYPE, linkname="/etc/passwd"), BOTH, (("skipped", "a link"),)
    ),
    "a-hard-link": Case(with_info("c.jpg", tarfile.LNKTYPE, linkname="a.jpg"), BOTH, (("skipped", "a link"),)),
    "a-device": Case(with_info("c.jpg", tarfile.CHRTYPE), BOTH, (("skipped", "c.jpg: not a regular file"),)),
    "directories": Case(with_info("c.jpg", tarfile.DIRTYPE), BOTH),
    "a-sparse-file": Case(
        with_pax(record("GNU.sparse.major", "1")),
        [("a", "undecodable"), ("b", "ok")],
        (("skipped", "a sparse file"),),
        "no image",
    ),
    "a-pax-size-past-the-end": Case(
        with_pax(record("size", "999999")), [("a", "truncated")], (("truncated", "payload of a.jpg"),)
    ),
    "a-pax-size-that-is-none": Case(with_pax(record("size", "-5")), [], (("unreadable", "impossible size"),)),
    "a-pax-name": Case(with_pax(record("path", "ü/c.jpg")), [("ü/c", "no_label"), ("a", "undecodable"), ("b", "ok")]),
    "a-pax-header-of-two-megabytes": Case(with_pax(b"x" * 2**21), [], (("unreadable", "extended header of 2097152"),)),
    "a-pax-header-of-200-000-records": Case(with_pax(b"5 a=\n" * 200_000), BOTH),
    "a-pax-header-out-of-step": Case(with_pax(b"9 a=\n"), [], (("unreadable", "malformed pax header"),)),
    "names-not-in-utf-8": Case(
        tar([(b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), A), *FILES], errors="surrogateescape"),
        BOTH,
        (("skipped", "caf?.jpg: a name that is not UTF-8"),),
    ),
    "names-without-key": Case(
        tar([(".jpg", A), ("README", b"x"), ("__x__", b"x"), *FILES]),
        BOTH,
        (("skipped", "without key"), ("skipped", "without key"), ("skipped", "metadata")),
    ),
    "a-name-of-300-bytes": Case(tar([("k" * 296 + ".jpg", A), ("k" * 296 + ".cls", b"3")]), [("k" * 296, "ok")]),
    "hostile-names": Case(tar([('<script>"\n|`.jpg', A), ('<script>"\n|`.cls', b"3")]), [('<script>"\n|`', "ok")]),
    "doubled-members": Case(
        tar([*FILES, FILES[0]]), [*BOTH, ("a", "duplicate")], (("duplicate", "a second jpg"),), "a second jpg"
    ),
    "extensions-that-differ-in-case": Case(
        tar([*FILES, ("a.JPG", A)]), [*BOTH, ("a", "duplicate")], (("duplicate", "a second jpg"),)
    ),
    "interleaved": Case(tar([FILES[0], FILES[2], FILES[1], FILES[3]]), BOTH),
    "pickles": Case(
        tar([*FILES, *((f"a.{name}", pickle.dumps(Trap())) for name in ("pickle", "pyd", "pkl", "pth"))]), BOTH
    ),
    "a-pickle-for-an-image": Case(
        tar([("a.jpg", pickle.dumps(Trap())), ("a.cls", b"0"), *FILES[2:]]),
        [("a", "undecodable"), ("b", "ok")],
        (),
        "a.jpg: no image; readable are JPEG, PNG",
    ),
    "packed-members": Case(
        tar([("a.jpg.gz", gzip.compress(A)), ("a.cls", b"0"), *FILES[2:]]),
        [("a", "undecodable"), ("b", "ok")],
        (),
        "it has jpg.gz, cls: packed files within a shard are not read",
    ),
}


class Found(NamedTuple):
    rows: list[tuple[str, str, str | None]]
    records: list[dict[str, Any]]


class Done(NamedTuple):
    run: Path
    exit_code: int
    written_outside: set[str]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run of all cases."""
    folder = tmp_path_factory.mktemp("bad") / "deep" / "er"
    (folder / "shards").mkdir(parents=True)
    for name, case in CASES.items():
        (folder / "shards" / f"{name}.tar").write_bytes(case.data)
    before = {str(path) for path in folder.parents[1].rglob("*")}
    job = load_job(
        None,
        {
            "dataset.shards": [str(folder / "shards" / "*.tar")],
            "model.name": "networks:tiny",
            "methods": ["gradient"],
            "output.path": str(folder / "run"),
        },
    )
    run = do_units(job)
    directory = RunDirectory(open_storage(run))
    summary = finish(directory, directory.labels, silent, Progress())
    after = {str(path) for path in folder.parents[1].rglob("*") if run not in (path, *path.parents)}
    return Done(run, summary.exit_code, after - before)


@pytest.mark.parametrize("name", CASES)
def test_a_bad_shard_leaves_the_rows_and_records_that_are_documented(done: Done, name: str) -> None:
    case, shard = CASES[name], f"{name}.tar"
    rows = duckdb.sql(
        f"select key, status, error from '{done.run}/metrics/**/*.parquet' where shard = '{shard}' order by index"
    ).fetchall()
    assert [row[:2] for row in rows] == case.rows
    assert all((status == "ok") == (error is None) for _, status, error in rows)
    assert all(error.startswith(f"{shard}: ") for _, _, error in rows if error)
    assert case.error in " ".join(error for _, _, error in rows if error)
    everything = [json.loads(path.read_text()) for path in sorted((done.run / "quarantine").glob("shard-*.json"))]
    records = [record for record in everything if record["shard"] == shard]
    assert [record["kind"] for record in records] == [kind for kind, _ in case.records]
    assert all(word in record["reason"] for record, (_, word) in zip(records, case.records, strict=True))
    assert all(record["offset"] is not None for record in records)


def test_the_run_is_whole_says_so_with_exit_3_and_wrote_nowhere_else(done: Done) -> None:
    result = audit(str(done.run))
    assert result.problems == []
    assert result.expected == sum(map(sum, (counts.values() for counts in result.statuses.values())))
    assert done.exit_code == 3
    assert done.written_outside == set()
    assert not Path("sprung").exists()
    page = (done.run / "report" / "index.html").read_text()
    assert page.count("<script") == 1  # the one of the report


WHOLE = tar(
    [
        ("a.jpg", A),
        ("a.cls", b"0"),
        ("a.json", b'{"boxes": [[1, 2, 30, 20]]}'),
        ("é" * 60 + ".jpg", B),
        ("é" * 60 + ".cls", b"1"),
        ("c.jpg", A),
        ("c.cls", b"7"),
    ],
    format=tarfile.PAX_FORMAT,
)
PLACE = st.integers(0, len(WHOLE))


def overwritten(start: int, noise: bytes) -> bytes:
    return WHOLE[:start] + noise + WHOLE[start + len(noise) :]


def taken_out(start: int, stop: int) -> bytes:
    return WHOLE[: min(start, stop)] + WHOLE[max(start, stop) :]


def repeated(start: int, stop: int) -> bytes:
    return WHOLE[: max(start, stop)] + WHOLE[min(start, stop) :]


def outcome(data: bytes) -> Found:
    """What a run sees of a shard with these bytes; anything but the documented error is let through."""
    root = f"memory://{uuid.uuid4().hex}"
    storage = open_storage(root)
    storage.put("x.tar", data)
    try:
        found = manifest.build([f"{root}/x.tar"], 2, workers=1)
    except UsageError as error:
        if error.field != "dataset.shards":
            raise
        return Found([], [{"reason": str(error.found)}])
    rows = []
    for unit in found.units():
        expected = found.rows(unit.id)
        samples = list(read_unit(storage, expected, needs_label=True, classes=8))
        assert [sample.row for sample in samples] == expected
        for sample in samples:
            assert (sample.status is Status.OK) == (sample.error is None)
            assert sample.image is not None or sample.status is not Status.OK
        rows += [(sample.row.key, sample.status.value, sample.error) for sample in samples]
    return Found(rows, [vars(record) for record in found.quarantine])


def keys_in(data: bytes) -> set[str]:
    """The keys of the files that Python's own reader finds, as far as it comes."""
    found = set()
    with suppress(Exception), tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for info in archive:
            if info.isreg():
                found.add(base_plus_ext(info.name)[0])
    return found - {None}


@settings(max_examples=120, deadline=None)
@given(
    data=st.one_of(
        st.builds(overwritten, PLACE, st.binary(min_size=1, max_size=600)),
        st.builds(taken_out, PLACE, PLACE),
        st.builds(repeated, PLACE, PLACE),
        st.builds(lambda stop: WHOLE[:stop], PLACE),
        st.binary(max_size=2000),
    )
)
def test_whatever_the_bytes_every_sample_is_a_row_or_a_record(data: bytes) -> None:
    found = outcome(data)
    assert {key for key, _, _ in found.rows} >= keys_in(data) or found.records
    assert all(record["reason"] for record in found.records)

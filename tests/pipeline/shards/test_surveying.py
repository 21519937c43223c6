"""How shards are surveyed: by an index, by headers, and by as few requests and bytes as that takes."""

from __future__ import annotations

import io
import os
import re
import sys
import tarfile
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from counting import Requests, counted_requests

from pipeline.shards import dali_index, index
from pipeline.shards.indexing import index_shards
from pipeline.shards.pack import write_tar
from pipeline.shards.ranges import LEAST_AHEAD, RangedFile
from pipeline.shards.samples import Status
from pipeline.shards.survey import Kind, ShardRecord, Survey, surveyed
from pipeline.shards.surveying import AT_ONCE_REMOTE, ShardChangedError, at_once, look_up, survey, survey_all
from pipeline.shards.tar_scan import TarMember, scan
from pipeline.storage import locate
from pipeline.storage.object_store import ObjectStorage
from ssig.errors import UsageError

LARGE = b"\xff\xd8" + b"x" * 200_000
SMALL = b"\xff\xd8 picture"


def archive(samples: int, image: bytes = LARGE, extensions: tuple[str, ...] = ("jpg", "cls", "json")) -> bytes:
    """A tar of whole samples, with a class number each."""
    buffer = io.BytesIO()
    contents = {"jpg": image, "json": b"{}"}
    write_tar(
        buffer,
        (
            (f"{number:06d}.{extension}", contents.get(extension, str(number).encode()))
            for number in range(samples)
            for extension in extensions
        ),
    )
    return buffer.getvalue()


@pytest.fixture
def requests() -> Iterator[Requests]:
    with counted_requests() as counted:
        yield counted


def stored(data: bytes, name: str = "x.tar") -> ShardRecord:
    """A shard in an object store of its own, looked up."""
    root = f"memory://{uuid.uuid4().hex}/shards"
    storage, _ = locate(f"{root}/{name}")
    storage.put(name, data)
    (shard,) = look_up([f"{root}/{name}"])
    return shard


def whole(data: bytes, name: str = "x.tar") -> Survey:
    """What a reading of every byte finds."""
    return survey(stored(data, name), hashed=True)


def same(one: Survey, other: Survey) -> bool:
    return bool(one.samples.equals(other.samples)) and one.quarantine == other.quarantine


def keys(found: Survey) -> list[str]:
    keys_: list[str] = found.samples["key"].to_pylist()
    return keys_


def test_headers_cost_one_small_request_a_sample_where_images_are_large(requests: Requests) -> None:
    data = archive(40)
    shard = stored(data)
    requests.clear()
    found = survey(shard)
    assert same(found, whole(data))
    assert found.samples["label"].to_pylist() == list(range(40))
    requests.clear()
    survey(shard)
    assert requests.of("read_range", "x.tar") <= 40 + 2
    assert requests.bytes_read <= (40 + 2) * 2 * LEAST_AHEAD + 10_240
    assert requests.kinds["entry"] == 1  # that the shard has not changed meanwhile


def test_a_shard_of_small_members_is_read_in_few_large_requests(requests: Requests) -> None:
    data = archive(3000, SMALL)
    shard = stored(data)
    requests.clear()
    found = survey(shard)
    assert len(keys(found)) == 3000
    assert requests.of("read_range", "x.tar") <= 10 + len(data) // 2**20 + 1
    assert requests.bytes_read <= len(data) + 1


def test_an_index_costs_one_request_and_the_shard_is_not_read(requests: Requests) -> None:
    data = archive(20)
    shard = stored(data)
    assert index_shards([shard.url]).written == 1
    requests.clear()
    assert same(survey(shard), whole(data))
    requests.clear()
    survey(shard)
    assert requests.kinds == {"read": 1}
    assert requests.names == {("read", "x.tar.index.parquet"): 1}


def damaged() -> dict[str, bytes]:
    """Each kind of damage of which a survey must tell; images are too large to be read on the way."""
    data = archive(4)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        headers = {member.name: member.offset for member in tar}
        payloads = {member.name: member.offset_data for member in tar}
    with_bad_header = bytearray(data)
    with_bad_header[headers["000002.jpg"] + 20] ^= 0x15
    doubled, interleaved, odd = io.BytesIO(), io.BytesIO(), io.BytesIO()
    write_tar(doubled, [("a.jpg", LARGE), ("a.cls", b"1"), ("b.jpg", LARGE), ("a.jpg", LARGE)])
    write_tar(interleaved, [("a.jpg", LARGE), ("b.jpg", LARGE), ("a.cls", b"1"), ("b.cls", b"2")])
    write_tar(odd, [("README", LARGE), ("a.jpg", LARGE), ("a.cls", b"1")])
    return {
        "cut in a payload": data[: payloads["000003.jpg"] + 1000],
        "cut on a border": data[: headers["000003.jpg"]],
        "cut between members": data[: headers["000003.cls"]],
        "cut in a header": data[: headers["000003.jpg"] + 100],
        "one closing block": data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512 + 512),
        "no closing block": data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512),
        "data behind the end": data + b"more" * 200,
        "two archives": data + data,
        "a bad header": bytes(with_bad_header),
        "a duplicate": doubled.getvalue(),
        "interleaved members": interleaved.getvalue(),
        "a skipped member": odd.getvalue(),
        "no archive": b"not a tar" * 100_000,
        "an empty file": b"",
        "no member": archive(0),
        "no image": archive(3, extensions=("txt", "cls")),
    }


@pytest.mark.parametrize("kind", damaged())
def test_each_kind_of_damage_is_found_without_reading_images(requests: Requests, kind: str) -> None:
    data = damaged()[kind]
    expected = whole(data)
    shard = stored(data)
    requests.clear()
    found = survey(shard)
    assert same(found, expected)
    assert found.quarantine or kind == "interleaved members"
    if kind not in ("no archive", "an empty file", "no member", "no image", "two archives"):
        assert requests.bytes_read < len(data) / 2
    index_shards([shard.url])
    assert same(survey(shard), expected)  # and an index tells the same


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 150_000), max_size=12),
    cut=st.none() | st.floats(0, 1),
    flip=st.none() | st.floats(0, 0.999),
)
def test_headers_say_what_the_whole_archive_says(sizes: list[int], cut: float | None, flip: float | None) -> None:
    buffer = io.BytesIO()
    write_tar(buffer, ((f"k{number // 2}.e{number % 2}", b"y" * size) for number, size in enumerate(sizes)))
    data = bytearray(buffer.getvalue())
    if flip is not None:
        data[int(flip * len(data))] ^= 0xFF
    if cut is not None:
        data = data[: int(cut * len(data))]
    found = scan(RangedFile(lambda offset, size: bytes(data[offset : offset + size]), len(data)))
    assert found == scan(io.BytesIO(data))


def test_a_shard_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(archive(2))
    (shard,) = look_up([str(path)])
    os.utime(path, ns=(1, 1))
    with pytest.raises(ShardChangedError, match="it changed while its samples were listed"):
        survey(shard)


@pytest.mark.parametrize("place", ["disk", "store"])
def test_a_stale_index_is_passed_over_with_a_line(tmp_path: Path, place: str) -> None:
    root = str(tmp_path) if place == "disk" else f"memory://{uuid.uuid4().hex}/shards"
    storage, name = locate(f"{root}/x.tar")
    storage.put(name, archive(3))
    index_shards([f"{root}/x.tar"])
    # Labels of the same length: nothing but the version tells the two shards apart.
    changed = archive(3).replace(b"2" + bytes(511), b"7" + bytes(511))
    storage.put(name, changed)
    (shard,) = look_up([f"{root}/x.tar"])
    found = survey(shard)
    assert found.samples["label"].to_pylist() == [0, 1, 7]
    assert found.note is not None
    assert found.note.startswith("x.tar.index.parquet: of another x.tar than the one that is there")
    assert f"ssig index {root}/x.tar" in found.note
    assert index_shards([f"{root}/x.tar"]).written == 1
    assert survey(shard).note is None
    assert index_shards([f"{root}/x.tar"]).current == 1


def test_an_index_that_is_none_is_passed_over_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(archive(3))
    (shard,) = look_up([str(path)])
    expected = survey(shard)
    good = index.to_bytes(expected)
    outside = Survey(ShardRecord("x.tar", "", 10, shard.version), expected.samples, [])
    for data in (b"", b"PAR1", good[:-20], good[:100] + bytes(50) + good[150:], index.to_bytes(outside)):
        (tmp_path / "x.tar.index.parquet").write_bytes(data)
        found = survey(shard)
        assert same(found, expected)
        assert found.note is not None


def test_an_index_of_another_shard_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    for name in ("x.tar", "y.tar"):
        (tmp_path / name).write_bytes(archive(3))
        os.utime(tmp_path / name, ns=(5, 5))
    index_shards([str(tmp_path / "x.tar")])
    (tmp_path / "x.tar.index.parquet").rename(tmp_path / "y.tar.index.parquet")
    (shard,) = look_up([str(tmp_path / "y.tar")])
    found = survey(shard)
    assert set(found.samples["shard"].to_pylist()) == {"y.tar"}
    assert found.note is not None


def test_an_index_with_a_hash_is_kept_and_one_without_is_made_anew_for_one(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(archive(2))
    index_shards([str(path)])
    (shard,) = look_up([str(path)])
    assert survey(shard).record.sha256 is None
    assert index_shards([str(path)], hashed=True).written == 1
    assert len(survey(shard).record.sha256 or "") == 64
    assert index_shards([str(path)]).current == 1


@pytest.mark.skipif(os.getuid() == 0, reason="the superuser may write everywhere")
def test_an_index_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(archive(2))
    os.chmod(tmp_path, 0o500)
    with pytest.raises(UsageError, match="a folder that can be written"):
        index_shards([str(path)])


def of_wds2idx(data: bytes) -> bytes:
    """The index that ``wds2idx`` writes of an archive: version 1.2."""
    samples: dict[str, list[str]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            samples.setdefault(key, []).append(f"{extension} {member.offset_data} {member.size} {member.name}")
    return "".join([f"v1.2 {len(samples)}\n", *(f"{' '.join(parts)}\n" for parts in samples.values())]).encode()


def test_the_index_of_dali_costs_the_labels_and_a_few_headers(requests: Requests) -> None:
    data = archive(50)
    shard = stored(data, "x-000.tar")
    storage, _ = locate(shard.url)
    storage.put("x-000.idx", of_wds2idx(data))
    expected = whole(data, "x-000.tar")
    requests.clear()
    found = survey(shard)
    assert same(found, expected)
    assert found.note is None
    assert requests.of("read_range", "x-000.tar") <= 50 + 1 + 2 + 8
    assert requests.bytes_read < 50 * 600 + 40_000

    unlabelled = archive(50, extensions=("jpg", "json"))
    shard = stored(unlabelled, "x-000.tar")
    locate(shard.url)[0].put("x-000.idx", of_wds2idx(unlabelled))
    requests.clear()
    survey(shard)
    assert requests.of("read_range", "x-000.tar") <= 1 + 2 + 8


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda idx: idx.replace(b"v1.2", b"v1.1"), "version 'v1.1'"),
        (lambda idx: idx.replace(b"000000.jpg", b"000009.jpg"), "its places are not those"),
        (lambda idx: b"\n".join([b"v1.2 3", *idx.splitlines()[1:4]]), "its places are not those"),
        (lambda idx: b"\n".join([b"v1.2 3", *idx.splitlines()[2:]]), "it does not name all"),
        (lambda idx: idx[:-40], "."),
        (lambda idx: b"\x80\x04pickle", "not an index of wds2idx"),
        (lambda idx: b"v1.2 0\n", "it names no file"),
        (lambda idx: idx.replace(b"000001.jpg", b"000001 .jpg"), "a name with spaces"),
    ],
)
def test_a_foreign_index_that_does_not_fit_is_passed_over_with_a_line(
    change: Callable[[bytes], bytes], why: str
) -> None:
    data = archive(4)
    shard = stored(data)
    locate(shard.url)[0].put("x.idx", change(of_wds2idx(data)))
    found = survey(shard)
    assert same(found, whole(data))
    assert found.note is not None
    assert found.note.startswith("x.idx: ")
    assert re.search(why, found.note)


def test_a_foreign_index_of_a_cut_shard_is_passed_over_and_the_cut_is_told() -> None:
    data = archive(4)
    shard = stored(data[:-12_000])
    locate(shard.url)[0].put("x.idx", of_wds2idx(data))
    found = survey(shard)
    assert [fault.kind for fault in found.quarantine] == [Kind.TRUNCATED]
    assert found.samples["status"].to_pylist()[-1] == Status.OK or len(keys(found)) == 4


def test_the_name_of_a_foreign_index_ends_at_the_first_dot() -> None:
    assert [dali_index.index_name(name) for name in ("a.tar", "a.b.tar", ".a.tar", "a")] == [
        "a.idx",
        "a.idx",
        ".a.idx",
        None,
    ]


def test_shards_of_an_object_store_are_asked_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    root = f"memory://{uuid.uuid4().hex}/shards"
    urls = [f"{root}/{number:03d}.tar" for number in range(AT_ONCE_REMOTE + 10)]
    storage, _ = locate(urls[0])
    for url in urls:
        storage.put(url.rpartition("/")[2], archive(1))
    lock, asked, most = threading.Lock(), 0, 0
    answer = ObjectStorage.read_range

    def late(*arguments: Any) -> bytes:
        nonlocal asked, most
        with lock:
            asked += 1
            most = max(most, asked)
        time.sleep(0.2)
        with lock:
            asked -= 1
        return answer(*arguments)

    monkeypatch.setattr(ObjectStorage, "read_range", late)
    found = list(survey_all(look_up(urls), at_once(urls)))
    assert [keys(shard) for shard in found] == [["000000"]] * len(urls)
    assert AT_ONCE_REMOTE / 2 < most <= AT_ONCE_REMOTE


def test_the_memory_of_tables_is_not_kept_for_each_thread() -> None:
    usual = pa.default_memory_pool().backend_name
    shard = stored(archive(2))
    with closing(survey_all([shard, shard, shard], 2)) as surveys:
        next(surveys)
        assert pa.default_memory_pool().backend_name == "system"
    assert pa.default_memory_pool().backend_name == usual


def test_little_is_kept_of_a_sample_while_its_shard_is_read() -> None:
    def members(count: int) -> Iterator[TarMember]:
        for number in range(count):
            start = 150_000 * number
            yield TarMember(f"{number:08d}", "jpg", start, start + 512, 139_000)
            yield TarMember(f"{number:08d}", "cls", start + 139_776, start + 140_288, 3, b"%d" % (number % 1000))

    record = ShardRecord("x.tar", "x.tar", 10**10, "1")
    surveyed(record, members(3))
    tracemalloc.start()
    try:
        found = surveyed(record, members(5000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.samples["label"].to_pylist()[-2:] == [998, 999]
    assert peak / 5000 < 500  # bytes

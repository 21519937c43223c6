"""Object storage against a real server process, through a network that fails in every way that it can be made to."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3 import KEY_ID, S3, SECRET, Request, always, credentials_in, never, once

from pipeline.shards.manifest import build
from pipeline.shards.patterns import expand
from pipeline.storage import open_storage
from pipeline.storage.base import Storage
from pipeline.storage.object_client import Patience
from ssig.errors import UsageError

Make = Callable[..., Any]


@pytest.fixture
def storage(s3: S3) -> Storage:
    return open_storage(f"{s3.bucket()}/runs/one")


def any_request(request: Request) -> bool:
    return True


def is_get(request: Request) -> bool:
    return request.method == "GET"


def is_put(request: Request) -> bool:
    return request.method == "PUT"


DATA = bytes(range(256)) * 40

CALLS: dict[str, Callable[[Storage], object]] = {
    "entry": lambda storage: storage.entry("x").size,  # type: ignore[union-attr]
    "list": lambda storage: [entry.name for entry in storage.list()],
    "read": lambda storage: storage.read("x"),
    "read_range": lambda storage: storage.read_range("x", 10, 3000),
    "open": lambda storage: storage.open("x").read(),
    "put": lambda storage: storage.put("x", DATA),
    "create": lambda storage: storage.create("new", DATA),
    "copy": lambda storage: storage.copy("x", "copied"),
    "delete": lambda storage: storage.delete("x"),
}


def test_a_large_file_goes_in_parts_and_is_copied_by_the_store(s3: S3, storage: Storage, tmp_path: Path) -> None:
    staged, data = tmp_path / "staged", os.urandom(11 << 20)
    staged.write_bytes(data)
    storage.upload(staged, "staged/part")
    storage.copy("staged/part", "table/part")
    storage.delete("staged/part")
    assert not staged.exists()
    assert storage.read("table/part") == data
    assert sum("partNumber=" in request.path for request, _ in s3.requests) > 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", ["500", "503", "reset", "late"])
def test_a_call_outlives_faults_that_pass(s3: S3, storage: Storage, call: str, fault: str) -> None:
    storage.put("x", DATA)
    expected = CALLS[call](open_storage(f"{storage.root}/other")) if call == "create" else None
    if call not in ("copy", "create", "delete", "put"):
        expected = CALLS[call](storage)
    s3.fault = once(any_request, fault, fault)
    assert CALLS[call](storage) == expected
    s3.fault = never
    added = {"copy": ["copied"], "create": ["new", "other/new"]}.get(call, [])
    kept = [] if call == "delete" else ["x", *added]
    assert {entry.name: storage.read(entry.name) for entry in storage.list()} == dict.fromkeys(kept, DATA)


@pytest.mark.parametrize("call", ["read", "read_range", "open", "list"])
@pytest.mark.parametrize("fault", ["cut", "short", "hang", "stall", "slow"])
def test_replies_that_come_late_or_in_part_are_asked_for_again(
    s3: S3, storage: Storage, call: str, fault: str
) -> None:
    if (call, fault) in {("list", "short"), ("read", "short")}:
        pytest.skip("nothing in such a reply tells that it is not whole")
    storage.put("x", DATA)
    expected = CALLS[call](storage)
    s3.fault = once(is_get, fault)
    assert CALLS[call](storage) == expected


@pytest.mark.parametrize("fault", ["lost", "late", "hang", "reset"])
def test_the_winner_of_a_name_knows_it_though_the_reply_was_lost(s3: S3, storage: Storage, fault: str) -> None:
    s3.fault = once(is_put, fault)
    assert storage.create("commit.json", b"mine")
    assert storage.read("commit.json") == b"mine"
    assert len([request for request, _ in s3.requests if request.is_conditional]) >= 1


@pytest.mark.parametrize("fault", [None, "lost", "late", "reset"])
@pytest.mark.parametrize("data", [b"theirs", b"mine"])
def test_a_late_writer_never_replaces_a_file_and_knows_that_it_lost(
    s3: S3, storage: Storage, fault: str | None, data: bytes
) -> None:
    assert storage.create("commit.json", b"mine")
    if fault is not None:
        s3.fault = once(is_put, fault)
    staged = storage.staging() / uuid.uuid4().hex
    staged.write_bytes(data)
    assert not storage.publish(staged, "commit.json")
    assert not staged.exists()
    assert storage.read("commit.json") == b"mine"


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("503", OSError, "SlowDown"),
        ("507", OSError, "InsufficientStorage"),
        ("403", PermissionError, "QuotaExceeded"),
        ("reset", OSError, ""),
    ],
)
@pytest.mark.parametrize("call", ["read", "read_range", "entry", "list", "put", "create"])
def test_a_fault_that_stays_is_an_error_that_names_the_object_and_no_credentials(
    s3: S3, storage: Storage, fault: str, kind: type[OSError], message: str, call: str
) -> None:
    storage.put("x", DATA)
    s3.fault = always(any_request, fault)
    with pytest.raises(kind) as caught:
        CALLS[call](storage)
    text = str(caught.value)
    assert {"create": f"{storage.root}/new", "list": storage.root}.get(call, f"{storage.root}/x") in text
    if call != "entry":  # the answer to a HEAD has no body
        assert message in text
    assert KEY_ID not in text
    assert "\n" not in text
    assert len(text) < 700


def test_a_reply_that_is_short_time_and_again_is_an_error(s3: S3, storage: Storage) -> None:
    storage.put("x", DATA)
    s3.fault = always(is_get, "short")
    with pytest.raises(OSError, match=f"{storage.root}/x: received 1500 of 3000 bytes"):
        storage.read_range("x", 10, 3000)


SECRET_URLS = [
    "s3://user:secret-word@bucket/a/x.tar",
    "s3://secret-word@bucket/x.tar",
    "s3://user:secret-word@bucket",
    "s3://bucket/x.tar?X-Amz-Signature=secret-word",
    "https://user:secret-word@host/x.tar",
    "s3://bucket:secret-word/x.tar",
]


@pytest.mark.parametrize("url", SECRET_URLS)
def test_urls_with_credentials_are_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    for attempt in (lambda: open_storage(url), lambda: expand([url], tmp_path)):
        with pytest.raises(UsageError, match="environment") as caught:
            attempt()
        assert "secret-word" not in str(caught.value)


def test_a_question_mark_is_a_wildcard_still(s3: S3) -> None:
    bucket = s3.bucket()
    for name in ("a1.tar", "a2.tar", "a10.tar"):
        open_storage(bucket).put(f"label=x/{name}", b"")
    assert expand([f"{bucket}/label=x/a?.tar"], Path()) == [f"{bucket}/label=x/a{n}.tar" for n in (1, 2)]
    assert expand([f"{bucket}/label=x/a?.t?r"], Path()) == [f"{bucket}/label=x/a{n}.tar" for n in (1, 2)]


def test_patience_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSIG_STORAGE_RETRIES", "2")
    monkeypatch.setenv("SSIG_STORAGE_REQUEST_SECONDS", "1.5")
    assert Patience.from_environment() == Patience(retries=2, request_seconds=1.5)
    assert len(list(Patience.from_environment().pauses())) == 2
    for text in ("soon", "-1", "2.5", "inf"):
        monkeypatch.setenv("SSIG_STORAGE_RETRIES", text)
        with pytest.raises(UsageError, match=f"SSIG_STORAGE_RETRIES: found '{text}'"):
            open_storage("s3://bucket")
    monkeypatch.setenv("SSIG_STORAGE_RETRIES", "0")
    monkeypatch.setenv("SSIG_STORAGE_SILENCE_SECONDS", "0")
    with pytest.raises(UsageError, match="SILENCE"):
        open_storage("s3://bucket")


def test_pauses_double_up_to_a_bound_and_differ_between_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(retries=12)
    assert list(patience.pauses()) != list(patience.pauses())
    assert all(0 <= pause <= 15 for pause in patience.pauses())
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    assert list(patience.pauses()) == [*(0.1 * 2**number for number in range(8)), *[15.0] * 4]
    assert list(Patience(retry_seconds=0).pauses()) == []


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", ["503", "reset", "hang"])
def test_a_request_is_sent_so_many_times_and_no_more(s3: S3, storage: Storage, call: str, fault: str) -> None:
    storage.put("x", DATA)
    s3.requests.clear()
    s3.fault = always(any_request, fault)
    with pytest.raises(OSError, match=storage.root):
        CALLS[call](storage)
    sent = Counter(request.method for request, _ in s3.requests)
    assert set(sent.values()) == {1 + Patience.from_environment().retries}


@pytest.fixture
def remote_shard(s3: S3, make_shard: Make) -> str:
    """A shard in a bucket of its own."""
    bucket = s3.bucket()
    path = make_shard(count=6)
    open_storage(f"{bucket}/shards").put(path.name, path.read_bytes())
    return f"{bucket}/shards/{path.name}"


def test_a_manifest_is_the_same_whatever_the_network_does(s3: S3, remote_shard: str) -> None:
    expected = build([remote_shard], 4).hash
    s3.fault = once(is_get, "cut", "short", "500", "stall")
    assert build([remote_shard], 4).hash == expected


def test_a_store_that_does_not_answer_is_no_damaged_shard(s3: S3, remote_shard: str) -> None:
    s3.fault = always(is_get, "503")
    with pytest.raises(OSError, match=f"{remote_shard}.*SlowDown"):
        build([remote_shard], 4)


def each_kind(seed: int) -> Callable[[Request], str | None]:
    """Breaks every seventh request or so, in every way in turn."""
    kinds = ["500", "lost", "503", "late", "reset", "cut", "slow"]
    count = iter(range(seed, 10**9))

    def fault(request: Request) -> str | None:
        number = next(count)
        return kinds[number // 7 % len(kinds)] if number % 7 == 0 else None

    return fault


def rows_of(run: str, metrics: tuple[str, ...] = ("insertion", "roc_auc")) -> Iterator[tuple[list[Any], list[Any]]]:
    from pipeline.run.reader import open_run

    rows = open_run(run).metrics().to_pylist()
    for row in sorted(rows, key=lambda row: (row["method"], row["shard"], row["index"])):
        yield (
            [row[name] for name in ("method", "shard", "index", "key", "status", "label", "predicted")],
            [row[name] for name in ("probability", *metrics)],
        )


@pytest.mark.slow
def test_a_run_on_a_store_that_fails_is_the_run_on_a_disk(
    s3: S3, remote_shard: str, make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path
) -> None:
    from pipeline.checks.audit import audit
    from pipeline.report import build_report, report_is_current
    from pipeline.run.reader import open_run

    local = str(work_off(make_job(make_shard(count=6), output__path=str(tmp_path / "local"))))
    run = f"{s3.bucket()}/runs/one"
    job = make_job(dataset__shards=[remote_shard], output__path=run)
    s3.fault = each_kind(3)
    work_off(job, limit=1)
    work_off(job)
    result = audit(run)
    assert result.problems == []
    build_report(run)
    assert report_is_current(open_run(run))
    assert any(kind is not None for _, kind in s3.requests)
    s3.fault = never
    for (names, numbers), (other_names, other_numbers) in zip(rows_of(run), rows_of(local), strict=True):
        assert names == other_names
        assert numbers == pytest.approx(other_numbers, abs=1e-3)
    assert credentials_in(s3.contents(run)) == []
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET


def test_folder_markers_and_keys_with_empty_parts_are_no_files(s3: S3, tmp_path: Path) -> None:
    root = s3.bucket()
    names = ("shards/a.tar", "shards/b.tar", "shards/deep/c.tar", "shards/zero.tar", "x.tar")
    for name in names:
        open_storage(root).put(name, b"" if "zero" in name else DATA)
    bucket = root.removeprefix("s3://")
    for marker in ("shards/", "shards/deep/", "shards/none/"):
        s3.ask("PUT", f"/{bucket}/{marker}")
    below = [name.removeprefix("shards/") for name in names[:4]]
    for false in ((), ("/lead.tar",), ("shards//d.tar", "shards/deep//e.tar", "shards//")):
        for key in false:
            s3.ask("PUT", f"/{bucket}/{key}")
        assert [entry.name for entry in open_storage(f"{root}/shards").list()] == below
        assert [entry.name for entry in open_storage(root).list()] == list(names)
        assert [entry.name for entry in open_storage(root).list("shards/deep")] == ["shards/deep/c.tar"]
        assert expand([f"{root}/shards/*"], tmp_path) == [f"{root}/{name}" for name in names if name.count("/") == 1]
        assert expand([f"{root}/*.tar"], tmp_path) == [f"{root}/x.tar"]
    assert open_storage(f"{root}//shards//").root == f"{root}/shards"
    with pytest.raises(UsageError, match=r"/shards/\*\.tar'"):
        expand([f"{root}/shards"], tmp_path)

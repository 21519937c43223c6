"""Reading units: patterns name the right shards, ranges hold what they should, and every fault becomes a status."""

from __future__ import annotations

import io
import json
import os
import uuid
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.job.configuration import load_job
from pipeline.shards import images, manifest, reading
from pipeline.shards.pack import write_tar
from pipeline.shards.reading import expand, read_unit
from pipeline.shards.samples import ManifestRow, Member, Sample, Status
from pipeline.storage import open_storage
from pipeline.storage.local import LocalStorage
from ssig.errors import UsageError

DEVELOPMENT = Path(os.environ.get("SSIG_DEV_SHARDS", Path(__file__).parents[4] / "shared" / "imagenet"))
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


PNG = encode(Image.fromarray(PIXELS))
JPEG = encode(Image.fromarray(PIXELS), "JPEG", quality=90)


def read(folder: Path, members: list[tuple[str, bytes]], **options: object) -> list[Sample]:
    """What a run sees of a shard with these members."""
    path = folder / "x.tar"
    with path.open("wb") as file:
        write_tar(file, members)
    found = manifest.build([str(path)], 64)
    return [s for unit in found.units() for s in read_unit(str(path), found.rows(unit.id), **options)]  # type: ignore[arg-type]


def test_a_sample_as_it_is_stored(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 5:50] = 255
    about = {"wnid": "n01440764", "boxes": [[1, 2, 30.5, 40], [-5, -5, 100, 100]], "licence": "CC0"}
    (sample,) = read(
        tmp_path,
        [
            ("a.PNG", PNG),
            ("a.cls", b"4"),
            ("a.json", json.dumps(about).encode()),
            ("a.mask.png", encode(Image.fromarray(mask))),
        ],
        needs_label=True,
        classes=5,
    )
    assert (sample.status, sample.error, sample.row.label, sample.wnid) == (Status.OK, None, 4, "n01440764")
    assert sample.image is not None
    assert sample.image.mode == "RGB"
    assert np.array_equal(np.asarray(sample.image), PIXELS)
    assert sample.boxes == ((1.0, 2.0, 30.5, 40.0), (-5.0, -5.0, 100.0, 100.0))
    assert sample.mask is not None
    assert np.array_equal(sample.mask, mask > 0)
    assert sample.mask.dtype == bool


def test_modes_become_rgb_of_eight_bits(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    deep = (grey.astype(np.uint16) << 8) + 77
    alpha = np.dstack([PIXELS, grey])
    palette = Image.fromarray(grey).convert("P")
    palette.info["transparency"] = bytes(range(256))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    same = encode(Image.fromarray(PIXELS), exif=rotated)
    pictures = {
        "grey": (encode(Image.fromarray(grey)), grey[..., None].repeat(3, -1)),
        "deep": (encode(Image.fromarray(deep)), grey[..., None].repeat(3, -1)),
        "bilevel": (encode(Image.fromarray(grey > 9)), 255 * (grey > 9)[..., None].repeat(3, -1)),
        "alpha": (encode(Image.fromarray(alpha)), PIXELS),
        "grey-alpha": (encode(Image.fromarray(alpha[..., 2:], "LA")), PIXELS[..., 2:].repeat(3, -1)),
        "palette": (encode(palette, transparency=bytes(range(256))), grey[..., None].repeat(3, -1)),
        "keyed": (encode(Image.fromarray(PIXELS), transparency=tuple(map(int, PIXELS[0, 0]))), PIXELS),
        "rotated": (same, PIXELS),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        samples = read(tmp_path, [(f"{name}.png", data) for name, (data, _) in pictures.items()])
    for sample in samples:
        assert sample.status == Status.OK, sample.error
        assert np.array_equal(np.asarray(sample.image), pictures[sample.row.key][1]), sample.row.key


def test_four_colour_and_misnamed_files(tmp_path: Path) -> None:
    ink = encode(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", quality=100, subsampling=0)
    cmyk, misnamed = read(tmp_path, [("a.jpg", ink), ("b.jpeg", PNG)])
    assert cmyk.image is not None
    assert cmyk.image.mode == "RGB"
    assert np.abs(np.asarray(cmyk.image).astype(int) - PIXELS).mean() < 10
    assert np.array_equal(np.asarray(misnamed.image), PIXELS)


@pytest.mark.parametrize("progressive", [False, True])
@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 0.98))
def test_a_truncated_jpeg_is_undecodable_and_never_half_an_image(progressive: bool, share: float) -> None:
    data = encode(Image.fromarray(PIXELS), "JPEG", progressive=progressive)
    storage = open_storage(f"memory://{uuid.uuid4().hex}")
    storage.put("x.tar", data)
    whole = row("a", Member("jpg", 0, len(data)))
    part = row("a", Member("jpg", 0, int(share * len(data))))
    assert [sample.status for sample in read_unit(storage, [whole])] == [Status.OK]
    (sample,) = read_unit(storage, [part])
    assert sample.status == Status.UNDECODABLE
    assert sample.image is None


def row(key: str, *members: Member, status: Status = Status.OK, error: str | None = None) -> ManifestRow:
    return ManifestRow("000000-000000-000001", "x.tar", 0, key, None, status, error, members)


def test_undecodable_images_name_shard_key_and_member(tmp_path: Path) -> None:
    noise, cut_png, none = read(
        tmp_path, [("noise.jpg", b"noise" * 100), ("cut.png", PNG[: len(PNG) // 2]), ("none.cls", b"1")]
    )
    assert str(noise.error).startswith("x.tar: noise.jpg: no image; readable are JPEG, PNG")
    assert str(cut_png.error).startswith("x.tar: cut.png: ")
    assert str(none.error).startswith("x.tar: none: no image member (jpg, jpeg, png, ")
    assert str(none.error).endswith("); it has cls")
    assert {sample.status for sample in (noise, cut_png, none)} == {Status.UNDECODABLE}


@settings(max_examples=100, deadline=None)
@given(position=st.floats(0, 1), noise=st.binary(min_size=1, max_size=40), data=st.sampled_from([PNG, JPEG]))
def test_damaged_images_never_raise(position: float, noise: bytes, data: bytes) -> None:
    start = int(position * len(data))
    damaged = data[:start] + noise + data[start + len(noise) :]
    storage = open_storage(f"memory://{uuid.uuid4().hex}")
    storage.put("x.tar", damaged)
    (sample,) = read_unit(storage, [row("a", Member("jpg", 0, len(damaged)))])
    assert (sample.image is None) == (sample.status == Status.UNDECODABLE) == (sample.error is not None)


def test_an_image_of_too_many_pixels_is_undecodable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(images, "MAX_PIXELS", 40 * 60 - 1)
    (sample,) = read(tmp_path, [("a.png", PNG)])
    assert sample.error == "x.tar: a.png: 60 x 40 pixels; at most 2399 are read"
    monkeypatch.undo()
    bomb = encode(Image.new("1", (20_000, 10_000)))
    (sample,) = read(tmp_path, [("a.png", bomb)])
    assert sample.status == Status.UNDECODABLE
    assert before == Image.MAX_IMAGE_PIXELS


def test_label_faults_are_told_where_labels_are_needed(tmp_path: Path) -> None:
    members = [("none.png", PNG), ("text.png", PNG), ("text.cls", b"cat"), ("high.png", PNG), ("high.cls", b"10")]
    assert [sample.status for sample in read(tmp_path, members)] == [Status.OK] * 3
    none, text, high = read(tmp_path, members, needs_label=True, classes=10)
    assert (none.status, none.error) == (
        Status.NO_LABEL,
        "x.tar: none: no cls member; it has png: give labels, or --target predicted",
    )
    assert text.status == Status.BAD_LABEL
    assert str(text.error).startswith("x.tar: text.cls: not an integer")
    assert (high.status, high.error) == (Status.BAD_LABEL, "x.tar: high.cls: label 10 is outside [0, 10)")
    assert all(sample.image is not None for sample in (none, text, high))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("", "is empty"),
        ("null", "no object with boxes"),
        ("[]", "no object with boxes"),
        ('{"boxes": 3}', "not a list of [x0, y0, x1, y1]"),
        ('{"boxes": {}}', "not a list of [x0, y0, x1, y1]"),
        ('{"boxes": [[1, 2, 3]]}', "not four finite numbers"),
        ('{"boxes": [[1, 2, 3, 4], [1, 2, "3", 4]]}', "not four finite numbers"),
        ('{"boxes": [[0, 0, true, 4]]}', "not four finite numbers"),
        ('{"boxes": [[0, 0, NaN, 4]]}', "not four finite numbers"),
        ('{"boxes": [[0, 0, Infinity, 4]]}', "not four finite numbers"),
        ('{"boxes": [[0, 0, 1' + "0" * 400 + ", 4]]}", "not four finite numbers"),
        ('{"boxes": [4]}', "not four finite numbers"),
        ('{"boxes": [[30, 2, 3, 4]]}', "inverted or empty"),
        ('{"boxes": [[3, 2, 3, 4]]}', "inverted or empty"),
        ('{"boxes": [[60, 0, 70, 4]]}', "wholly outside the image"),
        ('{"boxes": [[-9, -9, 0, 4]]}', "wholly outside the image"),
        ('{"boxes": [[0, 0, 1, 0.5]]}', "are the boxes fractions?"),
        ('{"boxes": [[1, 2, 30, 40], [7, 3, 7.9, 30]]}', "smaller than a pixel"),
    ],
)
def test_boxes_that_cannot_be_used_cost_no_more_than_themselves(tmp_path: Path, text: str, reason: str) -> None:
    (sample,) = read(tmp_path, [("a.png", PNG), ("a.json", text.encode("latin-1"))])
    assert (sample.status, sample.error, sample.boxes) == (Status.OK, None, None)
    assert reason in str(sample.boxes_fault)
    assert sample.image is not None


def test_a_wnid_that_is_no_text_is_none(tmp_path: Path) -> None:
    (sample,) = read(tmp_path, [("a.png", PNG), ("a.json", b'{"wnid": 1440764, "boxes": [[0, 0, 9, 9]]}')])
    assert (sample.status, sample.wnid, sample.boxes, sample.boxes_fault) == ("ok", None, ((0, 0, 9, 9),), None)


def test_a_json_member_without_boxes_is_no_fault(tmp_path: Path) -> None:
    for text in ("{}", '{"boxes": []}', '{"boxes": null, "wnid": null}', '{"url": "x"}'):
        (sample,) = read(tmp_path, [("a.png", PNG), ("a.json", text.encode())])
        assert (sample.status, sample.boxes, sample.wnid) == (Status.OK, None, None)


def test_masks(tmp_path: Path) -> None:
    inside = PIXELS[..., 0] > 100
    masks = {
        "bilevel": Image.fromarray(inside),
        "palette": Image.fromarray(inside.astype(np.uint8)).convert("P"),
        "deep": Image.fromarray(inside.astype(np.uint16) * 300),
        "rgba": Image.fromarray(np.dstack([inside, inside, inside, np.ones_like(inside)]).astype(np.uint8) * 255),
    }
    members = [
        (f"{name}.{ending}", encode(mask) if ending[0] == "m" else PNG)
        for name, mask in masks.items()
        for ending in ("png", "mask.png")
    ]
    for sample in read(tmp_path, members):
        assert sample.status == Status.OK, sample.error
        assert np.array_equal(np.asarray(sample.mask), inside), sample.row.key
    wide = encode(Image.new("1", (40, 60)))
    size, noise = read(tmp_path, [("a.png", PNG), ("a.mask.png", wide), ("b.png", PNG), ("b.mask.png", b"x")])
    assert size.mask_fault == "mask.png has another size than the image"
    assert noise.mask_fault == "mask.png is no image that can be read"
    assert size.status == noise.status == Status.OK
    assert size.mask is noise.mask is None


def test_rows_that_the_manifest_settled_pass_through_unread() -> None:
    rows = [
        row("a", Member("jpg", 10**12, 5), status=status, error="why")
        for status in (Status.TRUNCATED, Status.DUPLICATE)
    ]
    samples = list(read_unit(open_storage("memory://nothing-there"), rows))
    assert [(sample.status, sample.error, sample.image) for sample in samples] == [
        (Status.TRUNCATED, "why", None),
        (Status.DUPLICATE, "why", None),
    ]
    assert list(read_unit("memory://nothing-there/x.tar", [])) == []


def test_a_shard_that_vanished_or_shrank_is_no_samples_fault(tmp_path: Path) -> None:
    read(tmp_path, [("a.png", PNG), ("b.png", PNG)])
    path = tmp_path / "x.tar"
    found = manifest.build([str(path)], 64)
    rows = found.rows(next(found.units()).id)
    with path.open("r+b") as file:
        file.truncate(rows[1].members[0].offset + 5)
    with pytest.raises(OSError, match=r"x\.tar: shorter than in its manifest"):
        list(read_unit(str(path), rows))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(read_unit(LocalStorage(tmp_path), rows))


class CountingStorage(LocalStorage):
    """Notes the ranges that are read."""

    ranges: list[tuple[int, int]]

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        self.ranges.append((offset, size))
        return super().read_range(name, offset, size)


def test_neighbouring_members_are_read_in_one_request_and_the_rest_of_the_shard_not_at_all(tmp_path: Path) -> None:
    members = [
        (f"{index}.{ending}", PNG if ending == "png" else b"1") for index in range(9) for ending in ("png", "cls")
    ]
    far = [("z.bin", bytes(3 * 2**20)), ("z.png", PNG)]
    with (tmp_path / "x.tar").open("wb") as file:
        write_tar(file, members + far)
    found = manifest.build([str(tmp_path / "x.tar")], 4)
    storage = CountingStorage(tmp_path)
    spans = []
    for unit in found.units():
        storage.ranges = []
        rows = found.rows(unit.id)
        assert all(np.array_equal(np.asarray(sample.image), PIXELS) for sample in read_unit(storage, rows))
        spans.append(storage.ranges)
        pictures = [member for row in rows for member in row.members if member.extension == "png"]
        assert storage.ranges[0][0] == pictures[0].offset
        assert sum(storage.ranges[-1]) == pictures[-1].offset + pictures[-1].size
    assert [len(ranges) for ranges in spans] == [1, 1, 2]


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(0, 3 * 2**20), st.integers(0, 2**24)), min_size=1, max_size=12))
def test_joined_ranges_cover_every_member_once_and_stay_bounded(sizes: list[tuple[int, int]]) -> None:
    members, offset = [], 0
    for gap, size in sizes:
        members.append(Member("jpg", offset + gap, size))
        offset += gap + size
    spans = reading._join(members[::-1])
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    for member in members:
        assert sum(start <= member.offset and member.offset + member.size <= stop for start, stop in spans) >= 1
    assert all(stop - start <= reading._SPAN for start, stop in spans)


def test_interleaved_samples_keep_their_own_members(tmp_path: Path) -> None:
    pictures = {key: np.full((4, 5, 3), index, np.uint8) for index, key in enumerate("abcdef")}
    members = [(f"{key}.png", encode(Image.fromarray(pixels))) for key, pixels in pictures.items()]
    members += [(f"{key}.json", json.dumps({"boxes": [[0, 0, i + 1, 2]]}).encode()) for i, key in enumerate(pictures)]
    for index, sample in enumerate(read(tmp_path, members)):
        assert np.array_equal(np.asarray(sample.image), pictures[sample.row.key])
        assert sample.boxes == ((0.0, 0.0, index + 1.0, 2.0),)


def test_the_same_from_an_object_store(tmp_path: Path) -> None:
    local = read(tmp_path, [("a.png", PNG), ("b.png", PNG[:90]), ("c.jpg", JPEG)])
    root = f"memory://{uuid.uuid4().hex}/deep/er"
    open_storage(root).put("x.tar", (tmp_path / "x.tar").read_bytes())
    remote = list(read_unit(f"{root}/x.tar", [sample.row for sample in local]))
    assert [(s.status, s.error) for s in remote] == [(s.status, s.error) for s in local]
    assert np.array_equal(np.asarray(remote[2].image), np.asarray(local[2].image))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_patterns_name_shards(tmp_path: Path) -> None:
    base = tmp_path / "odd [base] {x}"
    touch(base, "a-0.tar", "a-1.tar", "a-2.tar", "b/c.tar", "b/d/e.tar", "[odd].tar", "notes.txt")

    def names(*patterns: str) -> list[str]:
        return [os.path.relpath(path, base) for path in expand(patterns, base)]

    assert names("a-{0..2}.tar") == ["a-0.tar", "a-1.tar", "a-2.tar"]
    assert names("a-2.tar", "a-[01].tar", "./a-0.tar") == ["a-0.tar", "a-1.tar", "a-2.tar"]
    assert names("{a-1,b/c}.tar") == ["a-1.tar", "b/c.tar"]
    assert names("*/*.tar") == ["b/c.tar"]
    assert names("**/*.tar") == ["[odd].tar", "a-0.tar", "a-1.tar", "a-2.tar", "b/c.tar", "b/d/e.tar"]
    assert names("[odd].tar") == ["[odd].tar"]
    assert names("b/../a-0.tar") == ["a-0.tar"]
    assert names(str(tmp_path / "odd ?base? *" / "a-?.tar")) == ["a-0.tar", "a-1.tar", "a-2.tar"]


@pytest.mark.parametrize("pattern", ["none.tar", "a-{0..3}.tar", "x*.tar", "b", "a-{0..3.tar", "http://x/a.tar", ""])
def test_patterns_that_miss_are_refused(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, "a-0.tar", "a-1.tar", "a-2.tar", "b/c.tar")
    with pytest.raises(UsageError) as error:
        expand([pattern], tmp_path)
    assert error.value.field == "dataset.shards"


@pytest.mark.parametrize("folder", ["exp[1]", "{a,b}", "x?*", "a{0..3}", "[!z]"])
def test_the_folder_that_one_works_in_is_no_pattern(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / folder / "deep"
    touch(work, "a-0.tar", "a-1.tar", "s[1].tar", "s1.tar", "{x,y}.tar", "x.tar")
    touch(tmp_path / "a", "deep/a-0.tar")
    monkeypatch.chdir(work)

    def names(*patterns: str) -> list[str]:
        job = load_job(None, {"dataset.shards": list(patterns), "output.path": "run"})
        found = expand(job.dataset.shards, Path.cwd())
        assert all(os.path.dirname(path) == str(work) for path in found)
        return [os.path.basename(path) for path in found]

    assert names("a-0.tar") == ["a-0.tar"]
    assert names("a-{0..1}.tar") == names("a-*.tar") == names("../deep/a-?.tar") == ["a-0.tar", "a-1.tar"]
    assert names(str(work / "a-*.tar")) == ["a-0.tar", "a-1.tar"]
    # A file of that very name comes before what it may be a pattern of.
    assert names("s[1].tar") == ["s[1].tar"]
    assert names("{x,y}.tar") == ["{x,y}.tar"]
    assert names("s[12].tar") == ["s1.tar"]


def test_patterns_pass_over_what_is_no_shard(tmp_path: Path) -> None:
    touch(tmp_path, "a.tar", "classes.json", "._a.tar", ".DS_Store")
    root = f"memory://{uuid.uuid4().hex}"
    for name in ("a.tar", "classes.json", "._a.tar", ".DS_Store"):
        open_storage(root).put(name, b"")
    assert expand(["*"], tmp_path) == [str(tmp_path / "a.tar")]
    assert expand([f"{root}/*"], tmp_path) == [f"{root}/a.tar"]
    assert expand(["classes.json"], tmp_path) == [str(tmp_path / "classes.json")]  # as one asks


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ("images", "ssig pack .*images --out shards"),
        ("images/", "ssig pack .*images --out shards"),
        ("shards", r"'.*shards/\*\.tar'"),
        ("empty", "the folder is empty"),
        ("images/*", "folders alone"),
    ],
)
def test_a_folder_given_as_shards_says_what_to_do(given: str, allowed: str, tmp_path: Path) -> None:
    touch(tmp_path, "images/n01/a.jpg", "shards/a.tar", "shards/classes.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=allowed) as error:
        expand([given], tmp_path)
    assert error.value.field == "dataset.shards"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("s3://", "s3://BUCKET/FOLDER"),
        ("s3:///x.tar", "s3://BUCKET/FOLDER"),
        ("s3:/b/x.tar", "s3://b/x.tar"),
        ("s3:b/x.tar", "s3://b/x.tar"),
        ("S3://b/x.tar", "s3://b/x.tar"),
        ("s3a://b/x.tar", "s3://b/x.tar"),
        ("gcs://b/x.tar", "gs://b/x.tar"),
        ("gs:/", "gs://BUCKET/FOLDER"),
        ("s3://*/x.tar", "s3://BUCKET/FOLDER"),
        ("s3://b/../x.tar", "without . and .."),
        ("ftp://h/x.tar", "begins with s3://"),
        ("hdfs:/h/x.tar", "begins with s3://"),
        ("https://h/x.tar", "begins with s3://"),
        ("file:///data/x.tar", "the path itself: /data/x.tar"),
        ("file:/data/x.tar", "the path itself: /data/x.tar"),
    ],
)
def test_what_is_meant_to_be_a_url_is_no_local_path(
    url: str, allowed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        load_job(None, {"dataset.shards": "a.tar", "output.path": url})
    assert (caught.value.field, allowed in caught.value.allowed) == ("output.path", True)
    for name_shards in (
        lambda: load_job(None, {"dataset.shards": url, "output.path": "run"}),
        lambda: expand([url], Path.cwd()),
    ):
        with pytest.raises(UsageError) as caught:
            name_shards()
        assert (caught.value.field, allowed in caught.value.allowed) == ("dataset.shards", True)
    with pytest.raises(UsageError):
        open_storage(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["memory://bucket", "memory://bucket/", "memory://bucket/none/"])
def test_a_bucket_or_a_folder_of_one_is_no_shard(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"dataset\.shards"):
        expand([url], tmp_path)


def test_shards_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.tar", "b/x.tar")
    with pytest.raises(UsageError, match=r"a/x\.tar.*b/x\.tar.*differ"):
        expand(["*/x.tar"], tmp_path)
    with pytest.raises(UsageError):
        expand([], tmp_path)


@pytest.mark.parametrize("pattern", ["*.tar", "s\udce9.tar", "*/x.tar"])
def test_paths_that_are_not_utf8_are_refused(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, "a.tar", "s\udce9.tar", "caf\udce9/x.tar")
    with pytest.raises(UsageError) as error:
        expand([pattern], tmp_path)
    assert error.value.field == "dataset.shards"
    assert str(error.value.found).endswith(("s\\xe9.tar", "caf\\xe9/x.tar"))
    assert str(error.value).isascii()


def test_patterns_of_objects(tmp_path: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    storage = open_storage(root)
    for name in ("val/a-0.tar", "val/a-1.tar", "val/deep/a-2.tar", "x.tar"):
        storage.put(name, b"")
    assert expand([f"{root}/val/a-{{0..1}}.tar"], tmp_path) == [f"{root}/val/a-0.tar", f"{root}/val/a-1.tar"]
    assert expand([f"{root}/val/*.tar"], tmp_path) == [f"{root}/val/a-0.tar", f"{root}/val/a-1.tar"]
    assert expand([f"{root}/v*/*/a-?.tar"], tmp_path) == [f"{root}/val/deep/a-2.tar"]
    assert expand([f"{root}/*.tar"], tmp_path) == [f"{root}/x.tar"]
    for missing in ("val/a-2.tar", "w*/a.tar"):
        with pytest.raises(UsageError, match=r"dataset\.shards"):
            expand([f"{root}/{missing}"], tmp_path)


@pytest.mark.data
@pytest.mark.skipif(not DEVELOPMENT.is_dir(), reason="the development shards are not here")
def test_a_development_shard_decodes(tmp_path: Path) -> None:
    (shard,) = expand([str(DEVELOPMENT / "*-0000.tar")], tmp_path)
    found = manifest.build([shard], 16)
    rows = found.rows(list(found.units())[1].id)
    samples = list(read_unit(shard, rows, needs_label=True, classes=1000))
    assert [sample.row for sample in samples] == rows
    assert {sample.status for sample in samples} == {Status.OK}
    assert all(sample.boxes and sample.wnid for sample in samples)

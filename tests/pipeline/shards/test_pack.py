"""Packing: original bytes, the same bytes each time, and nothing left out in silence."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from pipeline.shards import manifest
from pipeline.shards.pack import pack, write_tar
from pipeline.shards.samples import Status
from pipeline.shards.surveying import look_up, survey
from pipeline.shards.tar_scan import scan
from ssig.errors import UsageError

DEVELOPMENT = Path(os.environ.get("SSIG_DEV_SHARDS", Path(__file__).parents[4] / "shared" / "imagenet"))


def tree(folder: Path, *names: str) -> Path:
    """Files whose contents are their names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"picture {name}".encode())
    return folder


def contents(path: str) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


def test_an_image_folder(tmp_path: Path) -> None:
    source = tree(tmp_path / "pets", "dog/b.JPEG", "dog/a.v2.png", "cat/sub/c.jpg", "n01440764/x.jpg", "cat/.hidden")
    (shard,) = pack(source, tmp_path / "out")
    assert shard == str(tmp_path / "out" / "pets-000000.tar")
    found = contents(shard)
    assert list(found) == [
        *("cat/sub/c.jpg", "cat/sub/c.cls", "dog/a_v2.png", "dog/a_v2.cls", "dog/b.jpeg", "dog/b.cls"),
        *("n01440764/x.jpg", "n01440764/x.cls", "n01440764/x.json"),
    ]
    assert found["dog/b.jpeg"] == b"picture dog/b.JPEG"
    assert [found[name] for name in ("cat/sub/c.cls", "dog/b.cls", "n01440764/x.cls")] == [b"0", b"1", b"2"]
    assert json.loads(found["n01440764/x.json"]) == {"wnid": "n01440764"}
    assert json.loads((tmp_path / "out" / "classes.json").read_bytes()) == ["cat", "dog", "n01440764"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.json",
        "pets-000000.tar",
        "pets-000000.tar.index.parquet",
    ]


def test_packed_shards_are_indexed_with_their_hash(tmp_path: Path) -> None:
    source = tree(tmp_path / "pets", "dog/b.jpg", "cat/c.jpg", "cat/d.jpg")
    shards = pack(source, tmp_path / "out", shard_size=2)
    for record in look_up(shards):
        by_index, by_reading = survey(record), survey(record, hashed=True)
        assert by_index.record.sha256 is not None
        assert by_index.record == by_reading.record
        assert by_index.samples.equals(by_reading.samples)
        assert by_index.note is None
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert pack(source, tmp_path / "out", shard_size=2) == shards
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    (tmp_path / "out" / "pets-000000.tar.index.parquet").unlink()
    pack(source, tmp_path / "out", shard_size=2)
    assert (tmp_path / "out" / "pets-000000.tar.index.parquet").is_file()


def test_shards_are_whole_and_cut_by_size(tmp_path: Path) -> None:
    source = tree(tmp_path / "s", *(f"c/{index}.jpg" for index in range(7)))
    shards = pack(source, tmp_path / "out", shard_size=3)
    assert [Path(shard).name for shard in shards] == ["s-000000.tar", "s-000001.tar", "s-000002.tar"]
    found = manifest.build(shards, 64)
    assert [record.name for record in found.shards] == [Path(shard).name for shard in shards]
    keys = [row.key for unit in found.units() for row in found.rows(unit.id)]
    assert keys == [f"c/{index}" for index in range(7)]
    assert found.quarantine == ()


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    source = tree(tmp_path / "s", "b/2.jpg", "a/1.jpg", f"a/{'long' * 40}é.jpg")
    (first,) = pack(source, tmp_path / "one")
    before = os.stat(first)
    os.utime(source / "a" / "1.jpg", (1, 1))
    os.chmod(source / "a" / "1.jpg", 0o600)
    assert pack(source, tmp_path / "one") == [first]
    assert os.stat(first).st_ino == before.st_ino
    (second,) = pack(source, tmp_path / "two")
    assert Path(first).read_bytes() == Path(second).read_bytes()
    with tarfile.open(first) as tar:
        assert {(info.mtime, info.uid, info.gid, info.uname, info.mode) for info in tar} == {(0, 0, 0, "", 0o644)}
    with open(first, "rb") as file:
        assert scan(file).damage is None


def test_other_files_of_these_names_are_refused(tmp_path: Path) -> None:
    source = tree(tmp_path / "s", "a/1.jpg", "a/2.jpg")
    out = tmp_path / "out"
    pack(source, out, shard_size=1)
    with pytest.raises(UsageError, match=r"out: found .*s-000001\.tar"):
        pack(source, out)
    (source / "a" / "1.jpg").write_bytes(b"another")
    with pytest.raises(UsageError, match=r"out: found .*s-000000\.tar"):
        pack(source, out, shard_size=1)
    assert contents(str(out / "s-000000.tar"))["a/1.jpg"] == b"picture a/1.jpg"
    assert list((out / ".attempts").iterdir()) == []


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "a folder of images"),
        (("1.jpg",), "one folder per class"),
        (("a/1.jpg", "b/.keep"), "at least one image in each class folder"),
        (("a/1.jpg", "a/2.txt"), "images only: jpg, jpeg, png"),
        (("a/1.jpg", "a/1.png"), "one image per name"),
        (("a/1.2.jpg", "a/1_2.jpg"), "one image per name"),
        (("__a__/1.jpg",), "not a name of WebDataset's own metadata"),
    ],
)
def test_folders_that_would_lose_images_are_refused(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UsageError) as error:
        pack(tree(tmp_path / "s", *names), tmp_path / "out")
    assert error.value.field == "dataset.images"
    assert reason in error.value.allowed
    assert not (tmp_path / "out").exists()


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    source = tree(tmp_path / "s", "a/1.jpg")
    os.rename(source / "a" / "1.jpg", os.fsencode(source / "a") + b"/caf\xe9.jpg")
    with pytest.raises(UsageError, match="UTF-8"):
        pack(source, tmp_path / "out")


def test_an_image_that_cannot_be_read_is_refused_and_leaves_no_shard(tmp_path: Path) -> None:
    source = tree(tmp_path / "s", "a/1.jpg")
    (source / "a" / "2.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"dataset.images: found .*2\.jpg"):
        pack(source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tree(tmp_path / "s", "a/1.jpg", "a/locked/2.jpg", "a/open/3.jpg")
    scan_folder = os.scandir

    def scandir(path: str) -> object:  # a mode would not keep the superuser out
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan_folder(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match=r"dataset.images: found .*a/locked.*Permission denied"):
        pack(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bad_shard_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shard_size: found 0"):
        pack(tree(tmp_path / "s", "a/1.jpg"), tmp_path / "out", shard_size=0)


def ilsvrc(folder: Path) -> tuple[Path, Path, Path]:
    source = tree(folder / "val", "v_1.JPEG", "v_2.JPEG")
    solution, synsets = folder / "LOC_val_solution.csv", folder / "LOC_synset_mapping.txt"
    solution.write_text(
        "ImageId,PredictionString\nv_2,n02 5 6 7 8 n02 1 2 3 4 \nv_1,n01 1 2 30 40 \nv_3,n03 0 0 1 1 \n"
    )
    synsets.write_text("n00 tench, Tinca tinca\nn01 goldfish\nn02 shark\nn03 ray\n")
    return source, solution, synsets


def test_ilsvrc_validation_images(tmp_path: Path) -> None:
    source, solution, synsets = ilsvrc(tmp_path)
    (shard,) = pack(source, tmp_path / "out", csv=solution, synsets=synsets)
    found = contents(shard)
    assert list(found) == ["v_1.jpeg", "v_1.cls", "v_1.json", "v_2.jpeg", "v_2.cls", "v_2.json"]
    assert (found["v_1.cls"], found["v_2.cls"]) == (b"1", b"2")
    assert json.loads(found["v_2.json"]) == {"wnid": "n02", "boxes": [[5, 6, 7, 8], [1, 2, 3, 4]]}
    assert json.loads((tmp_path / "out" / "classes.json").read_bytes()) == ["n00", "n01", "n02", "n03"]


def test_a_mapping_numbers_the_classes_of_a_folder_too(tmp_path: Path) -> None:
    _, _, synsets = ilsvrc(tmp_path)
    (shard,) = pack(tree(tmp_path / "s", "n02/1.jpg"), tmp_path / "out", synsets=synsets)
    assert contents(shard)["n02/1.cls"] == b"2"


def test_a_thousand_classes_need_no_mapping(tmp_path: Path) -> None:
    source, solution, _ = ilsvrc(tmp_path)
    with pytest.raises(UsageError, match=r"synsets: found 'none, for 3 classes.*LOC_synset_mapping\.txt"):
        pack(source, tmp_path / "out", csv=solution)
    lines = [f"x_{index},n{index:08d} 0 0 1 1" for index in range(998)]
    solution.write_text(
        "\n".join(["ImageId,PredictionString", *reversed(lines), "v_1,n1 0 0 1 1", "v_2,n00000998 0 0 1 1"])
    )
    (shard,) = pack(source, tmp_path / "out", csv=solution)
    assert (contents(shard)["v_1.cls"], contents(shard)["v_2.cls"]) == (b"999", b"998")


@pytest.mark.parametrize(
    "line",
    [
        "v_1,",
        "v_1,n01 1 2 3",
        "v_1,n01 1 2 3 x",
        "v_1,n01 1 2 3 4 n02 1 2 3 4",
        ",n01 1 2 3 4",
        "v_2,n01 1 2 3 4",
        "v_1",
        "v_1,n01 1 2 3 1.5",
    ],
)
def test_bad_lines_of_the_csv_are_refused_with_their_number(tmp_path: Path, line: str) -> None:
    source, solution, synsets = ilsvrc(tmp_path)
    solution.write_text(f"ImageId,PredictionString\nv_2,n02 5 6 7 8\n{line}\n")
    with pytest.raises(UsageError, match=r"csv: found .*solution\.csv:3'"):
        pack(source, tmp_path / "out", csv=solution, synsets=synsets)


def test_what_csv_and_mapping_lack_is_refused(tmp_path: Path) -> None:
    source, solution, synsets = ilsvrc(tmp_path)
    tree(source, "v_9.JPEG")
    with pytest.raises(UsageError, match="no row for v_9"):
        pack(source, tmp_path / "out", csv=solution, synsets=synsets)
    (source / "v_9.JPEG").unlink()
    synsets.write_text("n01 goldfish\n")
    with pytest.raises(UsageError, match="synsets: found 'no line for n02'"):
        pack(source, tmp_path / "out", csv=solution, synsets=synsets)
    synsets.write_text("n01\nn01\n")
    with pytest.raises(UsageError, match="synsets"):
        pack(source, tmp_path / "out", csv=solution, synsets=synsets)
    with pytest.raises(UsageError, match=r"csv: found .*none\.csv"):
        pack(source, tmp_path / "out", csv=tmp_path / "none.csv")
    with pytest.raises(UsageError, match="csv"):
        pack(source, tmp_path / "out", csv=source / "v_1.JPEG")
    with pytest.raises(UsageError, match=r"dataset\.images: found"):
        pack(tmp_path / "none", tmp_path / "out")


def test_write_tar_ends_with_zero_blocks() -> None:
    buffer = io.BytesIO()
    write_tar(buffer, [("a.jpg", b"1")])
    assert buffer.getvalue()[1024:] == bytes(len(buffer.getvalue()) - 1024)
    assert len(buffer.getvalue()) >= 2048


@pytest.mark.data
@pytest.mark.skipif(not DEVELOPMENT.is_dir(), reason="the development shards are not here")
def test_a_development_shard_is_packed_again_byte_for_byte(tmp_path: Path) -> None:
    original = min(DEVELOPMENT.glob("*.tar"))
    found = contents(str(original))
    source = tmp_path / "val"
    source.mkdir()
    lines, classes = ["ImageId,PredictionString"], {}
    for name, data in found.items():
        key, extension = name.split(".")
        if extension == "jpg":
            (source / name).write_bytes(data)
        elif extension == "json":
            about = json.loads(data)
            lines.append(
                f"{key}," + " ".join(f"{about['wnid']} {x0} {y0} {x1} {y1}" for x0, y0, x1, y1 in about["boxes"])
            )
            classes[int(found[f"{key}.cls"])] = about["wnid"]
    (tmp_path / "solution.csv").write_text("\n".join(lines))
    (tmp_path / "synsets.txt").write_text("\n".join(classes.get(index, f"n{index}") for index in range(1000)))
    (shard,) = pack(source, tmp_path / "out", csv=tmp_path / "solution.csv", synsets=tmp_path / "synsets.txt")
    assert contents(shard) == found
    assert Path(shard).read_bytes() == original.read_bytes()
    shutil.rmtree(source)
    packed = manifest.build([shard], 64)
    assert {row.status for row in packed.rows(next(packed.units()).id)} == {Status.OK}


def test_what_systems_leave_is_neither_image_nor_class(tmp_path: Path) -> None:
    leavings = (
        "__MACOSX/a/._x.jpg",
        "Thumbs.db",
        "a/Thumbs.db",
        "a/desktop.ini",
        "a/._x.jpg",
        ".ipynb_checkpoints/x.jpg",
    )
    source = tree(tmp_path / "s", "a/x.jpg", "b/@eaDir/x.jpg", "b/x.jpg", *leavings)
    (shard,) = pack(source, tmp_path / "out")
    assert list(contents(shard)) == ["a/x.jpg", "a/x.cls", "b/x.jpg", "b/x.cls"]
    assert json.loads((tmp_path / "out" / "classes.json").read_bytes()) == ["a", "b"]


@pytest.mark.parametrize("ending", ["webp", "BMP", "tif", "TIFF", "gif"])
def test_every_format_that_is_read_is_packed(ending: str, tmp_path: Path) -> None:
    source = tree(tmp_path / "s", f"a/x.{ending}")
    (shard,) = pack(source, tmp_path / "out")
    assert list(contents(shard)) == [f"a/x.{ending.lower()}", "a/x.cls"]


def test_a_pointer_in_place_of_an_image_is_refused(tmp_path: Path) -> None:
    source = tree(tmp_path / "s", "a/x.jpg", "a/y.jpg")
    (source / "a/y.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UsageError, match=r"y\.jpg.*git lfs pull"):
        pack(source, tmp_path / "out")

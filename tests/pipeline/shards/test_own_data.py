"""Data of one's own: how lists, boxes, masks and Parquet files are understood, and what of them is refused."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.shards.classes import numbers_of
from pipeline.shards.own_data import OwnData, gather, numbered
from pipeline.shards.pack import pack
from ssig.errors import UsageError


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "birds"
    for name in ("day1/a.jpg", "day1/b.jpg", "day2/c.v1.png"):
        picture(folder / name)
    return folder


def listed(folder: Path, text: str) -> dict[str, Any]:
    """The class of each key under a list of classes."""
    (folder.parent / "labels.csv").write_text(text)
    found = gather(OwnData(str(folder), folder.parent / "labels.csv"))
    return {item.key: item.label for item in found.items}


@pytest.mark.parametrize(
    "text",
    [
        "file,label\nday1/a.jpg,owl\nday1/b.jpg,tit\nday2/c.v1.png,owl\n",
        "day1/a.jpg,owl\nday1/b.jpg,tit\nday2/c.v1.png,owl\n",
        "label;file\r\nowl;a.jpg\r\ntit;b.jpg\r\nowl;c.v1.png\r\n",
        "﻿name\tclass\na\towl\nb\ttit\n\nc.v1\towl\n",
        "n,path,label\n1,/data/birds/day1/a.jpg,owl\n2,./day1/b.jpg,tit\n3,birds\\day2\\c.v1.png,owl\n",
        'id,class\n"day1/a"," owl"\nday1/b,tit\nday2/c_v1,owl\n',
    ],
)
def test_any_two_columns_are_understood(images: Path, text: str) -> None:
    assert listed(images, text) == {"day1/a": "owl", "day1/b": "tit", "day2/c_v1": "owl"}


def test_whole_numbers_are_class_numbers(images: Path) -> None:
    assert listed(images, "a,3\nb,0.0\nc.v1,12\n") == {"day1/a": 3, "day1/b": 0, "day2/c_v1": 12}
    assert listed(images, "a,3\nb,x\nc.v1,12\n")["day1/a"] == "3"


def test_what_was_understood_is_told(images: Path) -> None:
    listed(images, "file,label\na,owl\nb,tit\nc.v1,owl\n")
    (note,) = gather(OwnData(str(images), images.parent / "labels.csv")).notes
    expected = "labels.csv: a header; column 'file' names the image, column 'label' its class; 3 images, 2 class names"
    assert note == f"{expected} (owl, tit)"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no rows.*file,class"),
        ("a.jpg\nb.jpg\n", "one column.*two columns"),
        ("a,owl\nb,tit\n", r"no row for day2/c\.v1\.png; allowed|no row for day2/c.v1.png'; allowed.*add the row"),
        ("a,owl\n", r"no row for day1/b\.jpg \(and 1 more\)"),
        ("a,owl\nb,tit\nc.v1,owl\nd.jpg,owl\n", r"csv:4: no image 'd\.jpg'.*delete the row, or add the image"),
        ("d.jpg,owl\na,owl\nb,tit\nc.v1,owl\n", r"csv:1: no image 'd\.jpg'"),
        ("file,label\nx.jpg,owl\ny.jpg,tit\n", r"no column names an image.*such as day1/a\.jpg"),
        ("a,owl\na,tit\nb,tit\nc.v1,owl\n", r"csv:2: day1/a\.jpg is \['owl', 'tit'\].*one class for each image"),
        ("a,owl\nb,\nc.v1,owl\n", "csv:2: no class"),
        ("a,owl\nb,tit,1\nc.v1,owl\n", "csv:2: 3 columns.*2 columns, as the other rows"),
        ("file,x,y\na,1,2\nb,1,2\nc.v1,1,2\n", "the columns file, x, y.*the name label or class"),
        ("a,-1\nb,0\nc.v1,0\n", "class -1.*class numbers from 0"),
        ("ImageId,PredictionString,x\na,n01 1 2 3 4,1\n", "--csv FILE"),
    ],
)
def test_lists_that_do_not_fit_are_refused(images: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=rf"^dataset\.labels: found .*({problem})"):
        listed(images, text)


def test_a_name_that_two_images_have_needs_its_folder(images: Path) -> None:
    picture(images / "day2" / "a.jpg")
    with pytest.raises(UsageError, match=r"csv:1: 'a\.jpg' is day1/a\.jpg and day2/a\.jpg"):
        listed(images, "a.jpg,owl\nb,tit\nc.v1,owl\n")
    found = listed(images, "day1/a.jpg,owl\nday2/a.jpg,jay\nb,tit\nc.v1,owl\n")
    assert (found["day1/a"], found["day2/a"]) == ("owl", "jay")


def test_an_image_of_another_folder_is_not_taken_for_one_of_the_same_name(images: Path) -> None:
    with pytest.raises(UsageError, match=r"no image 'day3/a\.jpg'"):
        listed(images, "day3/a.jpg,owl\nb,tit\nc.v1,owl\n")


def coco(images: Path, boxes: list[dict[str, Any]], **more: Any) -> OwnData:
    names = ["day1/a.jpg", "day1/b.jpg", "day2/c.v1.png", "elsewhere.jpg"]
    listing = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    path = images.parent / "coco.json"
    path.write_text(json.dumps({"images": listing, "annotations": boxes, **more}))
    return OwnData(str(images), None, path)


def test_coco_boxes_become_corners(images: Path) -> None:
    boxes = [
        {"image_id": 0, "bbox": [2, 3, 10, 5]},
        {"image_id": 0, "bbox": [0, 0, 40.5, 30]},
        {"image_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 1},
        {"image_id": 3, "bbox": [0, 0, 400, 400]},
    ]
    found = gather(coco(images, boxes))
    assert {item.key: item.about for item in found.items} == {
        "day1/a": {"boxes": [[2, 3, 12, 8], [0, 0, 40.5, 30]]},
        "day1/b": None,
        "day2/c_v1": None,
    }
    assert found.notes[1] == "coco.json: 2 boxes for 1 of 3 images; 1 of its images are not in the folder"


def test_only_boxes_of_the_class_are_its_object(images: Path) -> None:
    boxes = [
        {"image_id": 0, "category_id": 7, "bbox": [2, 3, 10, 5]},
        {"image_id": 0, "category_id": 9, "bbox": [1, 1, 2, 2]},
    ]
    found = gather(coco(images, boxes, categories=[{"id": 7, "name": "day1"}, {"id": 9, "name": "twig"}]))
    assert found.items[0].about == {"boxes": [[2, 3, 12, 8]]}
    assert "1 boxes of other classes than their image's are left out" in found.notes[1]


@pytest.mark.parametrize(
    ("boxes", "problem"),
    [
        (
            [{"image_id": 0, "bbox": [30, 3, 20, 5]}],
            r"a\.jpg has 40 x 30 pixels, and a box from \(30, 3\) to \(50, 8\)",
        ),
        ([{"image_id": 0, "bbox": [-5, 3, 20, 5]}], "inside of the image"),
        ([{"image_id": 0, "bbox": [1, 2, 3]}], "four numbers"),
        ([{"image_id": 0, "bbox": [1, 2, 0, 4], "id": 31}], "annotation 31.*have an area"),
        ([{"image_id": 0, "bbox": None}], "four numbers"),
    ],
)
def test_boxes_that_do_not_fit_are_refused(images: Path, boxes: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(UsageError, match=rf"^dataset\.boxes: found .*{problem}"):
        gather(coco(images, boxes))


@pytest.mark.parametrize(
    "text", ["[1, 2]", "{}", "no json", '{"images": [{"file_name": "a.jpg"}], "annotations": []}']
)
def test_other_json_than_coco_is_refused(images: Path, text: str) -> None:
    data = coco(images, [])
    assert data.boxes is not None
    data.boxes.write_text(text)
    with pytest.raises(UsageError, match="COCO annotations"):
        gather(data)
    data.boxes.write_text(json.dumps({"images": [{"id": 1, "file_name": "z.jpg"}], "annotations": []}))
    with pytest.raises(UsageError, match=r"none of its 1 images is in .*such as day1/a\.jpg"):
        gather(data)


def test_masks_are_found_by_name(images: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    first, second = picture(masks / "day1" / "a.png"), picture(masks / "c.v1_mask.png")
    found = gather(OwnData(str(images), masks=masks))
    assert [item.mask for item in found.items] == [first, None, second]
    assert found.notes[1] == "masks: masks for 2 of 3 images"
    (shard,) = pack(OwnData(str(images), masks=masks), tmp_path / "out")
    with tarfile.open(shard) as tar:
        assert tar.extractfile("day1/a.mask.png").read() == first.read_bytes()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "size", "problem"),
    [
        ("z.png", (40, 30), r"no image of this name.*such as day1/a\.png"),
        ("a.png", (20, 30), "20 x 30 pixels; its image has 40 x 30"),
        ("a.jpg", (40, 30), "images only: png"),
        (None, (40, 30), "no files"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    images: Path, tmp_path: Path, name: str | None, size: tuple[int, int], problem: str
) -> None:
    (tmp_path / "masks").mkdir()
    if name is not None:
        picture(tmp_path / "masks" / name, size)
    with pytest.raises(UsageError, match=rf"^dataset\.masks: found .*{problem}"):
        gather(OwnData(str(images), masks=tmp_path / "masks"))


def test_images_without_classes_need_no_folders(tmp_path: Path) -> None:
    picture(tmp_path / "flat" / "a.jpg")
    with pytest.raises(UsageError, match=r"one folder per class.*--labels FILE\.csv.*--target predicted"):
        gather(OwnData(str(tmp_path / "flat")))
    (shard,) = pack(OwnData(str(tmp_path / "flat")), tmp_path / "out", labelled=False)
    with tarfile.open(shard) as tar:
        assert tar.getnames() == ["a.jpg"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no images"):
        gather(OwnData(str(tmp_path / "none")))


def test_classes_are_numbered_as_in_the_network(images: Path) -> None:
    found = gather(OwnData(str(images)))
    classes, items = numbered(found, ["twig", "Day2", "day1"], strict=True)
    assert (classes, [item.label for item in items]) == (["twig", "Day2", "day1"], [2, 2, 1])
    classes, items = numbered(found, ["class 0", "class 1"], strict=True)
    assert (classes, [item.label for item in items]) == (["day1", "day2"], [0, 0, 1])
    with pytest.raises(UsageError, match=r"dataset\.images: found .*class 'day2'.*did you mean day3\?"):
        numbered(found, ["day1", "day3"], strict=True)
    assert numbered(found, ["day1", "day3"], strict=False)[0] == ["day1", "day2"]


def test_class_numbers_are_those_of_the_network(images: Path) -> None:
    (images.parent / "labels.csv").write_text("a,3\nb,0\nc.v1,12\n")
    found = gather(OwnData(str(images), images.parent / "labels.csv"))
    with pytest.raises(UsageError, match=r"dataset\.labels: found 'class 12'.*below 10"):
        numbered(found, [f"class {number}" for number in range(10)], strict=True)
    assert numbered(found, [f"class {number}" for number in range(13)], strict=True)[0] is None


def test_a_name_that_two_classes_have_is_of_none() -> None:
    assert numbers_of(["a b", "crane", "x"], ["crane, bird", "crane, machine", "A_b"]) == {
        "a b": 2,
        "crane": None,
        "x": None,
    }


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def parquet(path: Path, labels: list[Any], names: list[str] | None, **columns: list[Any]) -> Path:
    """A file as `datasets` writes it."""
    images = [{"bytes": jpeg(), "path": None} for _ in labels]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), "label": pa.array(labels), **columns})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return path


def test_a_dataset_of_hugging_face_is_packed(tmp_path: Path) -> None:
    for number in range(2):
        parquet(tmp_path / "data" / f"train-{number:05d}-of-00002.parquet", [1, 0, 1], ["owl", "ant"])
    shards = pack(OwnData(str(tmp_path / "data")), tmp_path / "out", shard_size=4)
    assert [Path(shard).name for shard in shards] == ["data-000000.tar", "data-000001.tar"]
    with tarfile.open(shards[0]) as tar:
        files = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    assert list(files)[:2] == ["train-00000-of-00002/00000000.jpg", "train-00000-of-00002/00000000.cls"]
    assert files["train-00000-of-00002/00000000.jpg"] == jpeg()
    assert [data for name, data in files.items() if name.endswith(".cls")] == [b"1", b"0", b"1", b"1"]
    assert json.loads((tmp_path / "out" / "classes.json").read_bytes()) == ["owl", "ant"]
    pattern = OwnData(str(tmp_path / "data" / "*-00000-*.parquet"))
    assert (pattern.name, len(gather(pattern).items)) == ("data", 3)


def test_columns_that_are_no_images_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"the columns url, label.*a column image that is a struct of bytes and path"):
        gather(OwnData(str(tmp_path / "a.parquet")))
    parquet(tmp_path / "b.parquet", [0, 5], ["owl", "ant"])
    with pytest.raises(UsageError, match=r"row 1: class 5.*below 2"):
        gather(OwnData(str(tmp_path / "b.parquet")))
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="a Parquet file that can be read"):
        gather(OwnData(str(tmp_path / "c.parquet")))
    with pytest.raises(UsageError, match=r"dataset\.labels.*Parquet files have a column label"):
        gather(OwnData(str(tmp_path / "b.parquet"), tmp_path / "labels.csv"))


def test_images_whose_class_is_not_known_have_none(tmp_path: Path) -> None:
    found = gather(OwnData(str(parquet(tmp_path / "test.parquet", [-1, 1], ["owl", "ant"]))))
    assert [item.label for item in found.items] == [None, "ant"]


def test_a_full_disk_is_refused_before_anything_is_written(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 1000))
    with pytest.raises(UsageError, match=r"^out: found '0 MB free in .*; allowed: a disk with [1-9]\d* MB free"):
        pack(images, tmp_path / "out")
    assert not (tmp_path / "out").exists()

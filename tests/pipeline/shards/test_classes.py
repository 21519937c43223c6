"""Class numbers of shards against those of the network: the same class by name or by WordNet id, or a refusal."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests_shards import jpeg

from pipeline.driver.attribute import attribute
from pipeline.job.configuration import load_job
from pipeline.shards.classes import check_classes
from pipeline.shards.pack import pack
from pipeline.storage import open_storage
from ssig.errors import UsageError
from ssig.models import ilsvrc
from ssig.models.sources import class_names

IMAGENET = class_names(1000)
WNIDS = [ilsvrc.aliases(number)[0] for number in range(1000)]
PETS = ("cat", "dog", "great white shark")
Check = Callable[..., list[str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Compares a list of classes beside a shard with a network's."""

    def compare(recorded: object, categories: Sequence[str], by_label: bool = True) -> list[str]:
        (tmp_path / "classes.json").write_text(json.dumps(recorded))
        return check_classes([str(tmp_path / "a.tar")], categories, by_label=by_label)

    return compare


def test_ilsvrc_is_in_order_of_its_wordnet_ids() -> None:
    assert sorted(WNIDS) == WNIDS
    assert (WNIDS[0], WNIDS[999], len(set(WNIDS))) == ("n01440764", "n15075141", 1000)
    assert all(name in ilsvrc.aliases(number) for number, name in enumerate(IMAGENET))
    assert ilsvrc.is_ilsvrc(IMAGENET)
    assert ilsvrc.number_of("n00000001") is None


@pytest.mark.parametrize(
    ("recorded", "categories"),
    [
        (WNIDS, IMAGENET),
        (WNIDS[:8], IMAGENET),
        (IMAGENET, IMAGENET),
        ([f"{wnid}-{name}" for wnid, name in zip(WNIDS, IMAGENET, strict=True)], IMAGENET),
        ([", ".join(ilsvrc.aliases(number)[3:]) for number in range(1000)], IMAGENET),
        ([name.upper().replace(" ", "_") for name in IMAGENET], IMAGENET),
        ({str(number): [wnid, "x"] for number, wnid in enumerate(WNIDS)}, IMAGENET),
        ({name: number for number, name in enumerate(PETS)}, PETS),
        (IMAGENET, [", ".join(ilsvrc.aliases(number)[3:]) for number in range(1000)]),
        (WNIDS, [", ".join(ilsvrc.aliases(number)[3:]) for number in range(1000)]),
        (IMAGENET, WNIDS),
        (WNIDS[2:3], ["Great_White_Shark"]),
        (["001.cat", "002.dog"], PETS),
        ([str(number) for number in range(1000)], IMAGENET),
        (["000", "001", "002"], PETS),
        (PETS, PETS),
        (PETS[:2], PETS),
        (PETS, ["class 0", "class 1", "class 2", "class 3"]),
        (PETS, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        (["0", "1", "10", "2"], ["0", "1", "10", "2"]),
    ],
)
def test_classes_of_the_same_meaning_pass(check: Check, recorded: object, categories: Sequence[str]) -> None:
    assert check(recorded, categories) == []


@pytest.mark.parametrize(
    ("recorded", "categories", "first"),
    [
        (PETS, IMAGENET, 0),
        (["tench", "goldfish", "tiger shark"], IMAGENET, 2),
        ([WNIDS[number] for number in (0, 217, 482, 491)], IMAGENET, 1),
        ([f"{WNIDS[number]}_{IMAGENET[number]}" for number in (151, 152)], IMAGENET, 0),
        ([*WNIDS[:500], *WNIDS[501:]], IMAGENET, 500),
        ([*WNIDS[:998], WNIDS[999], WNIDS[998]], IMAGENET, 998),
        (["0", "1", "10", "100"], IMAGENET, 2),
        (["dog", "cat"], PETS, 0),
        ([*PETS, "wolf"], PETS, 3),
    ],
)
def test_a_number_that_means_another_class_is_refused(
    check: Check, recorded: Sequence[str], categories: Sequence[str], first: int
) -> None:
    with pytest.raises(UsageError) as caught:
        check(recorded, categories)
    assert caught.value.field == "classes.json"
    assert f"0 {recorded[0]}, 1 {recorded[1]}" in str(caught.value.found)
    assert f"({len(recorded)} classes); class {first} is {recorded[first]!r} there" in str(caught.value.found)
    assert f"0 {categories[0]}, 1 {categories[1]}" in caught.value.allowed
    for way_out in ("--synsets", "categories", "--target predicted"):
        assert way_out in caught.value.allowed
    (note,) = check(recorded, categories, by_label=False)
    assert "labels mean other classes" in note


def test_a_folder_that_was_packed_is_compared(tmp_path: Path) -> None:
    for name in ("golden_retriever", "tabby"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "a.jpg").write_bytes(b"x")
    shards = pack(tmp_path / "pets", tmp_path / "out")
    with pytest.raises(UsageError, match=r"0 golden_retriever, 1 tabby \(2 classes\).*0 tench"):
        check_classes(shards, IMAGENET, by_label=True)
    assert check_classes(shards, ("Golden retriever", "tabby"), by_label=True) == []
    lines = tmp_path / "synsets.txt"
    lines.write_text("".join(f"{name.replace(' ', '_')}-{number}\n" for number, name in enumerate(IMAGENET)))
    with pytest.raises(UsageError):
        pack(tmp_path / "pets", tmp_path / "other", synsets=lines)
    unique = [name if IMAGENET.count(name) == 1 else str(number) for number, name in enumerate(IMAGENET)]
    lines.write_text("".join(f"{name.replace(' ', '_')}\n" for name in unique))
    assert check_classes(pack(tmp_path / "pets", tmp_path / "whole", synsets=lines), IMAGENET, by_label=True) == []


def test_without_a_list_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert check_classes([str(tmp_path / "a.tar"), "/a.tar"], IMAGENET, by_label=True) == []
    assert check_classes([f"memory://{uuid.uuid4().hex}/a.tar"], IMAGENET, by_label=True) == []


@pytest.mark.parametrize(
    "content", ["{", "3", "[]", "[1, 2]", '["a", ""]', '{"a": "b"}', '{"a": true}', "[" * 100_000]
)
def test_another_file_of_that_name_is_told_and_not_compared(content: str, tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(content)
    (note,) = check_classes([str(tmp_path / "a.tar")], IMAGENET, by_label=True)
    assert "no list of names" in note


def test_lists_of_several_folders_and_of_object_stores(tmp_path: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    lists = {"one": PETS, "more": [*PETS, "wolf"], "other": ["cat", "wolf"]}
    for name, classes in lists.items():
        open_storage(f"{root}/{name}").put("classes.json", json.dumps(classes).encode())
    (tmp_path / "classes.json").write_text(json.dumps(PETS))
    local = str(tmp_path / "a.tar")
    unknown = [f"class {number}" for number in range(9)]
    shards = [local, f"{root}/one/a.tar", f"{root}/one/b.tar", f"{root}/more/c.tar", f"{root}/none/d.tar"]
    assert check_classes(shards, unknown, by_label=True) == []
    with pytest.raises(UsageError, match="'wolf' there"):
        check_classes(shards, PETS, by_label=True)
    for disagreeing in ([*shards, f"{root}/other/e.tar"], [f"{root}/other/e.tar", local]):
        with pytest.raises(UsageError, match="alike") as caught:
            check_classes(disagreeing, unknown, by_label=True)
        assert "other/classes.json: 0 cat, 1 wolf" in str(caught.value.found)
        assert len(check_classes(disagreeing, unknown, by_label=False)) == 1


def test_a_run_of_other_classes_is_refused_before_any_work(tmp_path: Path) -> None:
    for name in PETS:
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "a.jpg").write_bytes(jpeg(0, (40, 32)))
    shards = pack(tmp_path / "pets", tmp_path / "shards")
    fields = {"dataset.shards": shards, "model.weights": "random", "output.path": str(tmp_path / "run")}
    with pytest.raises(UsageError, match=r"0 cat, 1 dog, 2 great white shark \(3 classes\).*0 tench, 1 goldfish"):
        attribute(load_job(None, fields))
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_shards_are_refused_before_the_network_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0, (40, 32)))
    fields = {"dataset.shards": str(tmp_path / "a.jpg"), "output.path": str(tmp_path / "run")}
    fields["model.name"] = "networks:none"
    with pytest.raises(UsageError, match=r"a JPEG image, not a tar archive.*type --images FOLDER"):
        attribute(load_job(None, fields))
    assert not (tmp_path / "run").exists()

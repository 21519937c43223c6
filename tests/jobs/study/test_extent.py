"""How far the study goes, on made-up data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from study_files import core, law_block

from jobs.study import block_file
from jobs.study.data import Study
from jobs.study.design import METRICS, NETWORKS
from jobs.study.extent import CONTENTS, compared, groups, network_table
from jobs.study.rivalry import OVER, comparisons


def test_every_group_says_what_it_holds(tmp_path: Path) -> None:
    assert CONTENTS.keys() == METRICS.keys()
    core(tmp_path, "mobilenetv2")
    law_block(tmp_path, "mobilenetv2")
    assert [line.partition(":")[0] for line in groups(Study(tmp_path))] == ["`core`", "`laws`"]


def test_a_network_has_its_weights_and_how_often_it_is_right(tmp_path: Path) -> None:
    assert all(network.weights for network in NETWORKS.values())
    core(tmp_path, "mobilenetv2", images=40)
    path = tmp_path / "mobilenetv2" / "core-first-000.parquet"
    rows, record = block_file.read(path)
    numbers = np.array([int(key[-4:]) for key in rows["key"].to_pylist()])
    for name, values in (("label", numbers), ("predicted", np.where(numbers < 30, numbers, 0))):
        rows = rows.append_column(name, pa.array(values))
    block_file.write(path, rows, record)
    core(tmp_path, "vit-tiny")
    head, first, second = network_table(Study(tmp_path))
    assert head == ["network", "weights", "share classified right"]
    assert first[0] == "MobileNetV2"
    assert first[2].startswith("0.750 [0.58")
    assert first[2].endswith(", N = 40")
    assert second == ["ViT-Tiny", NETWORKS["vit-tiny"].weights, "–"]


def test_the_share_is_of_the_images_of_all_blocks(tmp_path: Path) -> None:
    """Also with Arrow's threads, which the tests have off, and beside a larger block without classes."""
    for name, first, right in (("core-first-000", 0, 30), ("core-first-100", 40, 10)):
        core(tmp_path, "mobilenetv2", images=40, name=name)
        path = tmp_path / "mobilenetv2" / f"{name}.parquet"
        rows, record = block_file.read(path)
        numbers = np.array([int(key[-4:]) for key in rows["key"].to_pylist()])
        keys = pa.array([f"image{number + first:04d}" for number in numbers])
        rows = rows.set_column(rows.column_names.index("key"), "key", keys)
        for column, values in (("label", numbers + 1), ("predicted", np.where(numbers < right, numbers + 1, 0))):
            rows = rows.append_column(column, pa.array(values))
        block_file.write(path, rows, record)
    core(tmp_path, "mobilenetv2", images=100, name="permuted")
    path = tmp_path / "mobilenetv2" / "permuted.parquet"
    rows, record = block_file.read(path)
    block_file.write(path, rows.append_column("predicted", pa.array([0] * rows.num_rows)), record)
    pa.set_cpu_count(2)
    try:
        assert network_table(Study(tmp_path))[1][2].startswith("0.500 [0.3")
    finally:
        pa.set_cpu_count(1)


def test_the_comparisons_that_are_corrected_for_are_counted(tmp_path: Path) -> None:
    for network in ("mobilenetv2", "vit-tiny", "googlenet"):
        core(tmp_path, network, {"ssig": 0.3, "ssig-path": 0.2, "ig": 0.1})
    rows = comparisons(Study(tmp_path))
    each = len([row for row in rows if row.network == "vit-tiny"])
    over = len([row for row in rows if row.network == OVER])
    parts = [f"{each} on {name}" for name in ("MobileNetV2", "ViT-Tiny", "GoogLeNet")]
    assert compared(rows) == f"In question 1 there are {', '.join(parts)} and {over} over networks."
    assert compared([]) == ""

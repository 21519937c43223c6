"""The study's runner: what is measured, what is skipped, and what becomes of a stopped block."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
SUPPORT = ROOT / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

from tests_shards import members, write_tar  # noqa: E402

from jobs.study import block_file, published, run  # noqa: E402
from jobs.study.__main__ import main  # noqa: E402
from jobs.study.data import Study  # noqa: E402
from jobs.study.design import CONTROLS, FAMILIES, LAWS, PERMUTED, Block, Design, Network, blocks  # noqa: E402
from jobs.study.entries import known, method_of, metric_of, unknown, work  # noqa: E402
from jobs.study.extent import progress  # noqa: E402
from jobs.study.laws import kid_shares, settings  # noqa: E402
from jobs.study.permuted import permuted  # noqa: E402
from jobs.study.plan import plan, text  # noqa: E402
from jobs.study.published import TABLE  # noqa: E402
from jobs.study.run import Places, job_of, missing, run_blocks  # noqa: E402
from pipeline.driver.jemalloc import preloaded  # noqa: E402
from ssig.metrics.certainty.alignment import kernel_distance  # noqa: E402
from ssig.models import load_model  # noqa: E402

MAPPED = Path("/proc/self/maps")
CORE = Block("tiny", "core", "first", (0, 2), 5)
DESIGN = Design(
    networks={"tiny": Network("Tiny", {"name": "networks:tiny"}, 1000, 1000)},
    methods={"first": ("gradient", "ssig:samples=2", "ssig-attention:samples=2", "no-such-method"), LAWS: ()},
    metrics={"core": ("insertion:orders=signed,steps=4", "roc_auc", "certainty_nce"), LAWS: ()},
    looks=(),
    blocks=(CORE,),
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    shards = [write_tar(tmp_path / f"{number}.tar", members(3 * number, 3)) for number in range(2)]
    return Places(tmp_path / "data", tmp_path / "runs", tuple(map(str, shards)), SUPPORT)


@pytest.mark.slow
def test_a_block_becomes_a_file_once_and_grows_by_methods(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert list(missing(CORE, DESIGN, places)) == ["gradient", "ssig", "ssig-attention"]
    assert run_blocks(DESIGN, places, said.append) == 0, said
    rows, record = block_file.read(places.file(CORE))
    assert sorted(set(rows["method"].to_pylist())) == ["gradient", "ssig"]
    assert len(rows) == 10
    assert np.isfinite(rows["insertion"].to_numpy()).all()
    assert "attention" in record["refused"]["ssig-attention"]["reason"]
    assert len(record["curves"]["insertion_curve"]["ssig"]) == 5
    assert record["whole"]["certainty_nce_images"]["ssig"]["value"] == 4  # an even number
    assert record["measured"][0]["seconds"] > 0
    assert missing(CORE, DESIGN, places) == {}

    more = replace(DESIGN, methods={"first": ("gradient", "ssig:samples=2", "random")})
    assert missing(CORE, more, places) == {"random": "random"}
    asked = []
    real = run.attribute
    monkeypatch.setattr(run, "attribute", lambda file, places: asked.append(file.read_text()) or real(file, places))
    assert run_blocks(more, places, said.append) == 0, said
    assert len(asked) == 1
    assert "gradient" not in asked[0]
    grown, record = block_file.read(places.file(CORE))
    assert sorted(set(grown["method"].to_pylist())) == ["gradient", "random", "ssig"]
    assert len(grown) == 15
    assert [each["methods"] for each in record["measured"]] == [["gradient", "ssig", "ssig-attention"], ["random"]]


def test_a_further_method_that_is_refused_is_recorded_once(places: Places) -> None:
    refused = ("ssig-attention:samples=2",)
    said: list[str] = []
    assert run_blocks(replace(DESIGN, methods={"first": refused}), places, said.append) == 1
    assert "can run none of ssig-attention" in said[-1]
    assert not places.file(CORE).exists()
    assert run_blocks(replace(DESIGN, methods={"first": ("sobel",)}), places, said.append) == 0, said
    before = block_file.read(places.file(CORE))
    both = replace(DESIGN, methods={"first": ("sobel", *refused)})
    assert run_blocks(both, places, said.append) == 0, said
    rows, record = block_file.read(places.file(CORE))
    assert rows.equals(before[0])
    assert "attention" in record["refused"]["ssig-attention"]["reason"]
    assert record == {**before[1], "refused": record["refused"]}
    assert missing(CORE, both, places) == {}


def test_another_definition_is_measured_anew(places: Places) -> None:
    assert run_blocks(replace(DESIGN, methods={"first": ("gradient",)}), places, print) == 0
    other = replace(DESIGN, methods={"first": ("gradient",)}, metrics={"core": ("roc_auc",)})
    assert missing(CORE, other, places) == {"gradient": "gradient"}


def test_a_first_look_makes_way_for_the_whole_block(places: Places) -> None:
    """A look is measured first, and never in place of more images."""
    look, whole = Block("tiny", "own", "own", (0, 1), 2), Block("tiny", "own", "own", (0, 2))
    design = replace(DESIGN, methods={"own": ("sobel",)}, metrics={"own": ("roc_auc",)}, looks=(look,), blocks=())
    assert run_blocks(design, places, print) == 0
    assert len(block_file.read(places.file(look))[0]) == 2
    both = replace(design, blocks=(whole,))
    assert [line.block for line in plan(both, places)] == [whole]
    assert "0 of 1 blocks are done" in text(both, places)
    said = progress(Study(places.data), both)
    assert "0 of 1 blocks of measurements, and a first look of 25 images at 1 more." in said
    assert run_blocks(both, places, print) == 0
    assert len(block_file.read(places.file(whole))[0]) == 6
    assert plan(both, places) == []
    assert progress(Study(places.data), both) == "Measured so far: 1 of 1 blocks of measurements. Nothing is left."
    more = replace(both, methods={"own": ("sobel", "random")})
    assert [line.block for line in plan(more, places)] == [whole]
    assert "and a first look" not in progress(Study(places.data), more)
    other = replace(both, metrics={"own": ("gini",)})  # what the file has was measured otherwise, but on more images
    assert [line.block for line in plan(other, places)] == [whole]


def test_looks_have_the_names_of_blocks_with_more_images() -> None:
    design = Design()
    images = {(block.network, block.name): block.images for block in design.blocks}
    assert design.looks
    for look in design.looks:
        assert look.images < images[look.network, look.name]


@pytest.mark.slow
def test_a_block_that_fails_leaves_no_file_and_the_next_one_is_measured(places: Places) -> None:
    broken = Block("broken", "core", "first", (0, 2), 5)
    design = replace(
        DESIGN,
        networks={**DESIGN.networks, "broken": Network("Broken", {"name": "networks:absent"}, 1, 1)},
        methods={"first": ("gradient",)},
        blocks=(broken, CORE),
    )
    said: list[str] = []
    assert run_blocks(design, places, said.append) == 1
    assert any("not measured" in line and "absent" in line for line in said)
    assert not places.file(broken).exists()
    assert places.file(CORE).exists()


@pytest.mark.skipif(not preloaded({}) or not MAPPED.exists(), reason="no jemalloc or no /proc")
def test_a_network_that_is_measured_has_the_allocator_of_actors(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    (tmp_path / "telling.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'maps')!r}).write_text(Path({str(MAPPED)!r}).read_text())\n"
    )
    design = replace(DESIGN, networks={"tiny": Network("Telling", {"name": "telling:network"}, 1, 1)})
    assert run_blocks(design, replace(places, weights=tmp_path), print) == 1  # it holds no network
    assert "libjemalloc" in (tmp_path / "maps").read_text()


def test_the_laws_are_measured_part_by_part(places: Places) -> None:
    block = Block("tiny", LAWS, LAWS, (0, 2))
    design = replace(DESIGN, blocks=(block,))
    assert run_blocks(design, places, print) == 0
    rows, record = block_file.read(places.file(block))
    laws = settings()
    assert len(rows) == 6 * len(laws)
    parts = list(places.runs.rglob("*.npz"))
    assert len(parts) == 2
    same = rows.filter(np.array(rows["method"].to_pylist()) == "fade 0")
    assert np.abs(same["change"].to_numpy()).max() < 1e-6
    assert np.abs(same["kid"].to_numpy()).max() < 1e-6
    assert record["whole"]["frechet"]["noise 0.6"]["value"] > record["whole"]["frechet"]["noise 0.02"]["value"]

    # A block that was stopped goes on with the parts that it has.
    places.file(block).unlink()
    parts[0].unlink()
    kept = parts[1].stat().st_mtime_ns
    assert run_blocks(design, places, print) == 0
    assert parts[1].stat().st_mtime_ns == kept
    again = block_file.read(places.file(block))[0]  # `dead` has no number: the network has no ReLU
    assert again.drop_columns(["dead"]).equals(rows.drop_columns(["dead"]))

    # Parts of other images under the same names are not taken for those of these. Copies of these are.
    places.file(block).unlink()
    first, second = map(Path, places.shards)
    os.utime(first, ns=(0, 0))
    write_tar(second, members(30, 3))
    assert run_blocks(design, places, print) == 0
    assert len(list(places.runs.rglob("*.npz"))) == 3
    other = block_file.read(places.file(block))[0]
    assert other["key"].to_pylist() != rows["key"].to_pylist()


def test_maps_of_a_permuted_network_are_judged_on_the_true_one(places: Places) -> None:
    block = Block("tiny", PERMUTED, PERMUTED, (0, 2))
    design = replace(
        DESIGN,
        methods={PERMUTED: ("ssig:samples=2", "sobel")},
        metrics={PERMUTED: ("insertion:orders=signed,steps=4", "roc_auc")},
        blocks=(block,),
    )
    said: list[str] = []
    assert run_blocks(design, places, said.append) == 0, said
    rows, record = block_file.read(places.file(block))
    assert rows["method"].to_pylist() == ["sobel"] * 6 + ["ssig"] * 6
    assert record["methods"]["ssig"]["evaluations"] == 2
    assert missing(block, design, places) == {}

    # The true network's own maps, in a run: a map of edges does not depend on the weights, one of gradients does.
    own = replace(design, methods={"own": design.methods[PERMUTED]}, metrics={"own": design.metrics[PERMUTED]})
    whole = Block("tiny", "own", "own", (0, 2))
    assert run_blocks(replace(own, blocks=(whole,)), places, said.append) == 0, said
    theirs = block_file.read(places.file(whole))[0]
    assert theirs["key"].to_pylist() == rows["key"].to_pylist()
    same = np.array(rows["method"].to_pylist()) == "sobel"
    first, second = (each["insertion"].to_numpy() for each in (rows, theirs))
    np.testing.assert_allclose(first[same], second[same], rtol=1e-4)
    assert np.abs(first[~same] - second[~same]).max() > 1e-4


def test_permuted_weights_are_the_same_numbers_in_other_places() -> None:
    network = load_model("networks:tiny")
    twin = permuted(network)
    for (name, first), (_, second) in zip(network.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(first.flatten().sort().values, second.flatten().sort().values, rtol=0, atol=0)
        assert torch.equal(first, second) == (first.ndim < 2), name
    for first, second in zip(permuted(network).parameters(), twin.parameters(), strict=True):
        assert torch.equal(first, second)


KILLED = """
import sys
from pathlib import Path
from test_run import CORE, DESIGN, SUPPORT
from jobs.study.run import Places, run_blocks
folder = Path(sys.argv[1])
run_blocks(DESIGN, Places(folder / "data", folder / "runs", (str(folder / "0.tar"), str(folder / "1.tar")), SUPPORT))
"""


@pytest.mark.slow
def test_a_runner_that_is_killed_goes_on_where_it_was(places: Places, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)])}
    runner = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while not (commits := list(places.runs.rglob("commits/**/*.json"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    runner.kill()
    runner.wait()
    assert commits
    assert not places.file(CORE).exists()
    first = {path: path.stat().st_mtime_ns for path in commits}
    deadline = time.monotonic() + 60
    while run_blocks(DESIGN, places, print) and time.monotonic() < deadline:
        time.sleep(1)  # until the process that worked for the runner has ended
    rows, _ = block_file.read(places.file(CORE))
    assert len(rows) == 10
    assert {path: path.stat().st_mtime_ns for path in first} == first


@pytest.mark.slow
def test_a_stopped_block_goes_on_with_copied_shards_where_that_is_asked_for(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    design = replace(DESIGN, methods={"first": ("sobel",)}, metrics={"core": ("roc_auc",)})
    assert run_blocks(design, places, print) == 0
    places.file(CORE).unlink()
    for shard in places.shards:
        os.utime(shard, ns=(0, 0))
    folders = ["--shards", Path(places.shards[0]).parent, "--weights", SUPPORT]
    folders += ["--runs", places.runs, "--data", places.data]
    monkeypatch.setattr("jobs.study.design.Design", lambda: design)
    monkeypatch.setattr(sys, "argv", ["jobs.study", *map(str, folders)])
    assert main() == 1
    assert "type --trust-shards" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--trust-shards"])
    assert main() == 0
    assert len(block_file.read(places.file(CORE))[0]) == 5


def test_shares_of_the_kid_have_it_as_their_mean() -> None:
    draws = np.random.default_rng(0)
    first, second = draws.normal(size=(12, 4)), draws.normal(size=(12, 4))
    shares = kid_shares(first, second)
    value, error = kernel_distance(first, second)
    assert shares.mean() == pytest.approx(value)
    assert 2 * shares.std(ddof=1) / np.sqrt(12) == pytest.approx(error)


def test_the_plan_counts_gradients_and_forwards(places: Places) -> None:
    (line,) = plan(DESIGN, places)
    assert line.methods == 3
    assert line.work.gradients == 5 * (1 + 2 + 2)
    assert line.work.forwards == 5 * 3 * metric_of(DESIGN.metrics["core"][0]).spec.forwards(
        metric_of(DESIGN.metrics["core"][0]).parsed()
    )
    assert line.hours == pytest.approx((line.work.gradients + line.work.forwards) / 1000 / 3600)
    assert "no-such-method" in text(DESIGN, places)
    assert work(["ssig:samples=8"], ["stability"]).gradients == 24
    readouts = Design().methods["readouts"]
    laws = len(readouts) // len({entry.partition("integrand=")[2].partition(",")[0] for entry in readouts})
    assert work(readouts, []).gradients == 32 * laws  # the readouts of a law share its gradients


def test_combinations_of_methods_are_those_of_the_papers() -> None:
    found = {method.title: method for method in map(method_of, Design().methods["gig"]) if method is not None}
    costs = {title: method.spec.cost(method.parsed()).gradients for title, method in found.items()}
    assert (costs["smoothgrad-ig"], costs["smoothgrad-guided-ig"]) == (625, 625)
    assert (costs["guided-ig"], costs["xrai-guided-ig"], costs["xrai"]) == (200, 200, 200)
    options = found["xrai-guided-ig"].parsed()
    assert (options.base, options.baseline, options.runs) == ("guided-ig", "black", 1)
    assert options.parsed_base().max_dist == 0.02


def test_values_of_channels_are_kept_for_the_metrics_that_need_them(places: Places) -> None:
    design = Design()
    shards = replace(places, shards=places.shards * 5)
    kept = {
        (block.network, block.metrics): job_of(block, {}, design, shards, Path("run"))["output"]["channels"]
        for block in design.blocks
        if block.metrics in ("core", "sig", "spi")
    }
    assert {key for key, channels in kept.items() if channels} == {("resnet18-256", "sig")}


def test_the_study_as_it_stands_is_sound() -> None:
    design = Design()
    names = [(block.network, block.name) for block in blocks()]
    assert len(set(names)) == len(names)
    for block in design.blocks:
        assert block.network in design.networks
        assert block.shards[1] <= 10
    for group in design.metrics.values():
        for entry in group:
            metric_of(entry)
    for entries in design.methods.values():
        assert unknown(entries) == []
    measured = {
        (block.network, block.name, label) for block in design.blocks for label in known(design.methods[block.methods])
    }
    assert {(row.network, row.block, row.label) for row in TABLE} <= measured
    for network in {block.network for block in design.blocks}:
        labels = [
            entry.rpartition("label=")[2]
            for group in dict.fromkeys(
                block.methods for block in design.blocks if block.network == network and block.metrics == "core"
            )
            for entry in design.methods[group]
        ]
        assert len(labels) == len(set(labels))


def test_a_stopped_write_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    path = tmp_path / "block.parquet"
    block_file.write(path, pa.table({"key": ["a"], "method": ["ig"], "x": [1.0]}), {"a": 1})
    monkeypatch.setattr(block_file.os, "replace", lambda *names: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        block_file.write(path, pa.table({"key": ["b"], "method": ["ig"], "x": [2.0]}), {"a": 2})
    assert block_file.read(path)[1] == {"a": 1}


def test_each_network_has_24_methods_and_floors_on_all_its_images() -> None:
    expected = dict(zip(FAMILIES, (500, 500, 300, 150, 150), strict=True))
    design = Design()
    for group in ("first", "second"):
        images = dict.fromkeys(FAMILIES, 0)
        for block in design.blocks:
            if (block.metrics, block.methods) == ("core", group):
                images[block.network] += block.images
        assert images == expected
    assert len(design.methods["first"]) - len(CONTROLS) + len(design.methods["second"]) >= 24


def test_the_published_rows_have_a_method_of_their_name_in_the_blocks() -> None:
    design = Design()
    for row in published.TABLE:
        assert row.label in known(design.methods[row.block]), row
        assert any((block.network, block.methods) == (row.network, row.block) for block in design.blocks)


def test_a_part_of_no_block_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["study", "plan", "--only", "nonsense"])
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: --only: found 'nonsense'; allowed: a part of NETWORK/NAME")

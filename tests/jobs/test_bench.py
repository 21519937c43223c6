"""The benchmarks: timing in turn, the choice of a peer's setting, adapters of peers, commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from jobs.bench import host_metrics, networks, timing
from jobs.bench.engine import (
    COMPARISONS,
    Comparison,
    best_setting,
    rank_correlation,
    relative_difference,
    settings,
)
from jobs.bench.networks import DEVELOPMENT_SHARDS, Case, pictures
from jobs.bench.peers import GRADIENTS, Setting, call_model
from jobs.commands.printing import PROSE, text
from ssig import attribute
from ssig.errors import UsageError

SUPPORT = Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from command_line import Cli, command_line  # noqa: E402
from small_case import small_case  # noqa: E402
from tests_shards import members, write_tar  # noqa: E402

PEERS = {"captum": "captum", "pair": "saliency"}


class Clock:
    """A timer that stands still unless work is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> Callable[[], None]:
        def advance() -> None:
            self.now += seconds

        return advance


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys, "bench")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(networks.NETWORKS, "tiny", ("networks:tiny", None))
    return "tiny"


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=4), st.integers(1, 6))
def test_alternating_times_each_function_by_itself(durations: list[float], rounds: int) -> None:
    clock = Clock()
    samples = timing.alternate(dict(enumerate(map(clock.work, durations))), rounds, clock)
    assert list(samples) == list(range(len(durations)))
    for number, seconds in samples.items():
        assert seconds == pytest.approx([durations[number]] * rounds)


def test_every_other_round_goes_backwards() -> None:
    order: list[str] = []
    timing.alternate({name: lambda name=name: order.append(name) for name in "abc"}, 3, Clock())
    assert "".join(order) == "abccbaabc"


def test_ratios_are_of_each_round() -> None:
    # The machine is three times as slow in the second round: both sides lose, the ratio stays.
    assert timing.ratios([2.0, 6.0], [1.0, 3.0]) == [2.0, 2.0]
    assert timing.summary([3.0, 1.0, 2.0, 5.0]) == {"min": 1.0, "median": 2.5, "max": 5.0}
    with pytest.raises(ValueError, match="zip"):
        timing.ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(("images", "steps"), [(1, 1), (1, 4), (3, 5), (8, 32), (100, 7)])
@pytest.mark.parametrize("groups", [False, True])
def test_settings_of_a_peer_fill_its_batches(images: int, steps: int, groups: bool) -> None:
    found = settings(Comparison(lambda *_: torch.zeros(0), lambda _: {}, groups=groups), images, steps)
    assert found[0] == Setting(1, 1)
    assert len(set(found)) == len(found)
    gradients = max(setting.points for setting in found)
    for setting in found:
        assert setting.images <= setting.points <= setting.images * steps
        assert setting.images <= images
        assert gradients % setting.images == 0
    assert groups or all(setting.images == 1 for setting in found)


@pytest.mark.parametrize("fastest", [Setting(1, 1), Setting(1, 4), Setting(2, 8)])
def test_the_fastest_setting_is_found(fastest: Setting) -> None:
    clock = Clock()
    done: dict[Setting, int] = {}

    def theirs(case: Case, steps: int, setting: Setting) -> Tensor:
        gradients = len(case.images) * steps
        assert done.setdefault(setting, gradients) == gradients
        clock.work(gradients * (0.5 if setting == fastest else 1.0))()
        return torch.zeros(0)

    one = small_case()
    case = Case(one.model, one.images.repeat(2, 1, 1, 1), one.targets.repeat(2), one.baselines.repeat(2, 1, 1, 1), "")
    assert best_setting(Comparison(theirs, lambda _: {}, groups=True), case, 8, clock) == fastest
    assert len(set(done.values())) == 1


def test_differences_of_maps() -> None:
    maps = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert relative_difference(maps, maps).tolist() == [0.0] * 3
    assert relative_difference(maps * 1.5, maps).tolist() == pytest.approx([0.5] * 3)
    assert rank_correlation(maps**3, maps).tolist() == pytest.approx([1.0] * 3)
    assert rank_correlation(-maps, maps).tolist() == pytest.approx([-1.0] * 3)


def test_the_adapter_gives_the_gradient_of_the_logit() -> None:
    case = small_case()
    target = int(case.targets)
    points = case.images[0].movedim(0, 2).numpy()[None]
    found = call_model(case.model, target)(points, call_model_args=None, expected_keys=[GRADIENTS])[GRADIENTS]
    ours = attribute(case.model, case.images, case.targets, "gradient").values
    assert found.shape == points.shape
    assert torch.allclose(torch.from_numpy(found[0]).movedim(2, 0), ours[0], rtol=1e-12)


def test_pictures_come_from_shards_in_their_order_or_are_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEVELOPMENT_SHARDS, raising=False)
    assert "scikit-image" in pictures(2).source
    shard = write_tar(tmp_path / "a.tar", members(0, 3))
    assert [image.size for image in pictures(2, [str(shard)]).images] == [(48, 40)] * 2
    monkeypatch.setenv(DEVELOPMENT_SHARDS, str(tmp_path))
    assert "a.tar" in pictures(3).source
    with pytest.raises(UsageError, match="at most 3"):
        pictures(4)


@pytest.mark.parametrize(("peer", "method"), COMPARISONS)
def test_an_engine_benchmark_gives_rates_ratios_and_differences(cli: Cli, tiny: str, peer: str, method: str) -> None:
    pytest.importorskip(PEERS[peer])
    arguments = ["engine", "--network", tiny, "--peer", peer, "--method", method]
    arguments += ["--images", 2, "--steps", 4, "--rounds", 2]
    result = cli(*arguments, "--json")
    assert result.code == 0, result.err
    record = json.loads(result.out)
    assert [side["side"].split()[0] for side in record["sides"]] == ["ssig", "ssig.attribute", PEERS[peer], "bare"]
    for spread in (record["ratio"], *(side["gradients/s"] for side in record["sides"])):
        assert 0 < spread["min"] <= spread["median"] <= spread["max"]
    difference = record["difference"]
    if COMPARISONS[peer, method].random:
        assert difference["relative_l2_median"] is None
    else:
        assert difference["relative_l2_median"] < 5e-3
        assert difference["spearman_median"] > 0.999
    table = cli(*arguments).out
    assert "ratio: " in table
    assert "gradients/s" in table


@pytest.mark.parametrize(("criterion", "tolerance"), [("standard-error", 0.2), ("spearman", 0.05)])
def test_adaptive_compares_the_samples_drawn_with_a_fixed_number(
    cli: Cli, tiny: str, criterion: str, tolerance: float
) -> None:
    arguments = ["adaptive", "--network", tiny, "--images", 3, "--tolerance", tolerance, "--criterion", criterion]
    record = json.loads(cli(*arguments, "--json").out)
    assert record["criterion"] == criterion
    least, median, most = record["samples drawn, least - median - most"]
    assert 8 <= least <= median <= most <= 512
    enough = record["fixed number for 95 % of the images"]
    shares = {row["samples"]: row["images within the tolerance"] for row in record["fixed numbers"]}
    assert shares[enough] >= 0.95
    assert record["saving"] == pytest.approx(1 - record["samples drawn, mean"] / enough)
    assert record["images within the tolerance"] == 1


def test_host_gives_what_each_method_costs(cli: Cli) -> None:
    record = json.loads(cli("host", "--rounds", 1, "--size", 32, "--json").out)
    assert {"smoothgrad", "ssig", "ig", "xrai"} <= {row["method"] for row in record["rows"]}
    for row in record["rows"]:
        assert row["device thread, ms"] > 0
        assert row["gradients"] == {"random": 0, "ig": row["gradients"]}.get(row["method"], row["images"] * 32)


def test_adaptive_names_its_criteria(cli: Cli, tiny: str) -> None:
    result = cli("adaptive", "--network", tiny, "--criterion", "pearson")
    assert result.code == 2
    assert "spearman" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "alexnet"], "resnet50"),
        (["--peer", "zennit"], "captum"),
        (["--method", "guided-ig"], "allowed: ig"),
        (["--peer", "pair", "--method", "ssig"], "smoothgrad"),
        (["--precision", "fp8"], "bf16"),
        (["--images", 0], "--images"),
        (["--images", 10**6], "at most"),
        (["--peer", "pair", "--steps", 1], "rule"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: list[object], message: str
) -> None:
    monkeypatch.delenv(DEVELOPMENT_SHARDS, raising=False)
    if "pair" in arguments:
        pytest.importorskip("saliency")
    result = cli("engine", *arguments)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(("peer", "package"), PEERS.items())
def test_a_peer_that_is_not_installed_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, peer: str, package: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    result = cli("engine", "--peer", peer)
    assert result.code == 2
    assert "pip install '.[bench]'" in result.err
    assert result.err.count("\n") == 1


def test_values_are_printed_for_a_person() -> None:
    values: dict[str, Any] = {"min": 1.0, "median": 2.0, "max": 3.0}
    assert text(values, PROSE) == "1 - 2 - 3"
    assert text({"spearman_median": 0.99998, "relative_l2": None}, PROSE) == "spearman median 0.99998, relative l2 -"
    assert text([True, 12345], PROSE) == "yes; 12345"


def test_what_the_host_does_beside_a_device_is_measured() -> None:
    threads, interval = torch.get_num_threads(), sys.getswitchinterval()
    record = host_metrics.measure(rounds=1, seconds=0.02, side=32)
    assert all(row["thread ms an image"] > 0 for row in record["changed images"])
    assert all(row["thread seconds a map and order"] > 0 for row in record["imputations"])
    assert [row["decoding threads"] for row in record["decoding"]] == [1, 2]
    beside = record["beside a busy thread"]
    assert len(beside) == 2 * (1 + len(host_metrics.INTERVALS))
    assert all(row["points/s"] > 0 for row in beside)
    assert (torch.get_num_threads(), sys.getswitchinterval()) == (threads, interval)

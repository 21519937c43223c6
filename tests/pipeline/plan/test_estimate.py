"""The arithmetic of a plan: work, hours, price, files and the size of units."""

from __future__ import annotations

import pytest

from pipeline.job.choices import MethodChoice, MetricChoice, named
from pipeline.plan.device import Probed, probed
from pipeline.plan.estimate import Terms, estimate
from pipeline.plan.files import Output, empty_bytes, joined, output_of, row_bytes, schemas
from pipeline.plan.probe import LabelCost, Timed, images_within
from pipeline.plan.samples import limited
from pipeline.plan.unit_size import image_bytes, unit_size
from pipeline.plan.work import LabelWork, Work, job_work
from pipeline.run.layout import ATTRIBUTIONS, METRICS
from ssig.registry import METRICS as KNOWN

WRITTEN = Output(files=3, bytes=1e6, map_bytes=9e5, measured=True)


def methods(*given: dict[str, object]) -> list[MethodChoice]:
    return [MethodChoice.model_validate(named(one)) for one in given]


def metrics(*given: dict[str, object]) -> list[MetricChoice]:
    return [MetricChoice.model_validate(named(one)) for one in given]


def cost(attribute: float, metric: float = 0.0, write: float = 0.0, gradients: float = 0.0) -> LabelCost:
    steps = {"decode": 0.5, "attribute": attribute, "metrics": metric, "write": write}
    return LabelCost(steps, {"insertion": metric}, gradients, {ATTRIBUTIONS: 1000.0, METRICS: 100.0})


def test_work_is_what_the_registries_say() -> None:
    chosen = methods({"name": "ig", "steps": 10}, {"name": "ssig", "samples": 4}, {"name": "random"})
    works = job_work(chosen, metrics({"name": "insertion", "steps": 4, "orders": "signed"}), "logit")
    assert [work.label for work in works] == ["ig", "ssig", "random"]
    assert [work.own.gradients for work in works] == [chosen[0].spec.evaluations(chosen[0].parsed()), 4, 0]
    insertion = KNOWN["insertion"]
    forwards = insertion.forwards(insertion.parse({"steps": 4, "orders": "signed"}))
    assert {work.metrics["insertion"].forwards for work in works} == {forwards}
    assert works[1].total == Work(4, forwards)


def test_a_metric_that_explains_again_costs_the_method_again() -> None:
    metric = metrics({"name": "max_sensitivity"})[0]
    work = job_work(methods({"name": "ig", "steps": 10}), [metric], "logit")[0]
    assert work.metrics["max_sensitivity"].gradients == work.own.gradients * metric.spec.explanations(metric.parsed())


def test_methods_with_the_same_points_pay_once() -> None:
    chosen = methods({"name": "ig", "steps": 8}, {"name": "pwig", "steps": 8}, {"name": "ssig"})
    works = job_work(chosen, [], "logit")
    assert [work.shares for work in works] == [None, "ig", None]
    assert works[1].own == Work()


def test_hours_and_price_follow_from_a_probe() -> None:
    probe = Probed(2, 32, 6.5, 36.0, {"a": cost(3.0, 1.0, 0.25), "b": cost(1.0)}, {"micro_batch": 8})
    terms = Terms("run", 7200, True, 64, 113, {"a": 7200, "b": 3600}, devices=4, price=2.0)
    works = [LabelWork("a", Work(8), {"insertion": Work(0, 12)}), LabelWork("b", Work(), {"insertion": Work()})]
    found = estimate(terms, works, WRITTEN, probe, ["something"])
    seconds = {(part.label, part.what): part.seconds for part in found.parts}
    assert seconds[None, "reading"] == 7200 * 1.0
    assert seconds["a", "maps"] == 7200 * 3.0
    assert seconds["a", "insertion"] == 7200 * 1.0
    assert seconds["b", "maps"] == 3600 * 1.0
    assert seconds[None, "writing"] == 7200 * 0.25
    assert found.device_hours == pytest.approx(7200 * 5.25 / 3600 + 1)
    assert found.wall_hours == pytest.approx(found.device_hours / 4 + 0.01)
    assert found.cost == pytest.approx(2 * 4 * found.wall_hours)
    assert found.slowest is not None
    assert (found.slowest.label, found.slowest.what) == ("a", "maps")
    assert (found.gradients, found.forwards) == (7200 * 8, 7200 * 12 + 7200)
    assert found.record["device_hours"] == found.device_hours


def test_a_stated_rate_takes_the_place_of_a_probe() -> None:
    terms = Terms("run", 1000, True, 64, 16, {"a": 1000}, rate=100.0)
    found = estimate(terms, [LabelWork("a", Work(9), {"m": Work(0, 30)})], WRITTEN, None, [])
    assert found.device_hours == pytest.approx((9000 + 31_000 / 3) / 100 / 3600)
    nothing = estimate(Terms("run", 1000, True, 64, 16, {"a": 1000}), [LabelWork("a", Work(9))], WRITTEN, None, [])
    assert nothing.device_hours is None
    assert nothing.slowest is None


def test_gradients_that_are_known_only_after_a_run_are_those_of_the_probe() -> None:
    work = [LabelWork("a", Work(), counted=True)]
    terms = Terms("run", 10, True, 64, 1, {"a": 10})
    assert estimate(terms, work, WRITTEN, None, []).parts[1].gradients is None
    probe = Probed(1, 4, 1.0, 1.0, {"a": cost(1.0, gradients=17.0)}, {"micro_batch": 8})
    assert estimate(terms, work, WRITTEN, probe, []).parts[1].gradients == 170


def test_steps_of_several_workers_add_up_to_the_time_of_the_device() -> None:
    timed = [Timed(10, 20.0, 3.0, {"a": cost(3.0, 1.0)}, {}), Timed(10, 20.0, 5.0, {"a": cost(3.0, 1.0)}, {})]
    found = probed(timed)
    assert found.seconds == 1.0
    assert found.worker_seconds == 2.0
    assert found.ready == 5.0
    assert sum(found.labels["a"].steps.values()) == pytest.approx(found.seconds)
    assert found.labels["a"].metrics["insertion"] == pytest.approx(found.labels["a"].steps["metrics"])


@pytest.mark.parametrize(
    ("seconds", "memory", "samples", "workers", "size"),
    [
        (1.0, 1e6, 10**6, 8, 64),
        (0.001, 1e5, 10**6, 8, 1024),
        (0.001, 4e6, 10**6, 8, 128),
        (500.0, 1e6, 10**6, 8, 1),
        (0.1, 1e6, 1000, 4, 32),
        (0.1, 1e6, 3, 16, 1),
        (0.1, 1e6, 6, 1, 512),
        (0.0, 0.0, 10**9, 1, 1024),
    ],
)
def test_a_unit_takes_about_a_minute_within_its_bounds(
    seconds: float, memory: float, samples: int, workers: int, size: int
) -> None:
    assert unit_size(seconds, memory, samples, workers) == size


def test_memory_of_an_image_grows_with_its_maps() -> None:
    assert image_bytes((224, 224), 5, 0) > image_bytes((224, 224), 1, 0) > 2 * 3 * 224 * 224 * 4


def test_a_limit_takes_the_first_samples() -> None:
    assert limited([10, 10, 10], 12, exact=True).of_shards == (10, 2)
    assert limited([10, 10, 10], None, exact=True).units(4) == 9


def test_bytes_come_from_the_schemas_until_a_probe_measures_them() -> None:
    tables = schemas([KNOWN["insertion"]], (8, 8), "float16", channels=False)
    assert 8 * 8 * 2 < row_bytes(tables[ATTRIBUTIONS]) < 8 * 8 * 2 + 400
    unmeasured = output_of(tables, 2, 100)
    assert (unmeasured.files, unmeasured.measured) == (4, False)
    measured = output_of(tables, 2, 100, {ATTRIBUTIONS: 50.0, METRICS: 10.0})
    assert measured.map_bytes == 2 * empty_bytes(tables[ATTRIBUTIONS]) + 100 * 50
    assert measured.bytes < unmeasured.bytes
    assert joined([measured, unmeasured], 2).files == 10
    assert not joined([measured, unmeasured], 2).measured


@pytest.mark.parametrize(("of_one", "rows", "images"), [(1.0, 64, 16), (100.0, 64, 4), (0.001, 64, 256), (0.1, 3, 8)])
def test_a_probe_times_what_fits_its_seconds(of_one: float, rows: int, images: int) -> None:
    assert images_within(30.0, of_one, rows) == images

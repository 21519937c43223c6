"""The study's answers on made-up data whose truth is known."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from study_files import core, law_block, sanity, whole_study  # noqa: E402

from jobs.study import answers, block_file, laws, sentences  # noqa: E402
from jobs.study.against_noise import against_noise  # noqa: E402
from jobs.study.agreement import CONTROL, SAMPLES, WEIGHTS, Agreement, agreements, worths  # noqa: E402
from jobs.study.augmentation import DIFFERENCE, RIVALS, SUPPRESSION, augmentation  # noqa: E402
from jobs.study.better import better, higher, rises  # noqa: E402
from jobs.study.block_file import MOST_BYTES  # noqa: E402
from jobs.study.choices import Cost, best, costs, reached  # noqa: E402
from jobs.study.data import GAP, Study, rivals  # noqa: E402
from jobs.study.design import VARIANTS, blocks  # noqa: E402
from jobs.study.drawing import grid, legend, numbers_of  # noqa: E402
from jobs.study.equal_change import NEARNESS, SATURATION, contrasts  # noqa: E402
from jobs.study.extent import coverage  # noqa: E402
from jobs.study.figures import nearness_figure  # noqa: E402
from jobs.study.glance import glance_table  # noqa: E402
from jobs.study.inference import (  # noqa: E402
    Estimate,
    difference,
    joint,
    mean_difference,
    mean_of,
    over_networks,
    partial_rank_correlation,
    preferred,
    rank_correlation,
    share_of,
)
from jobs.study.labels import is_setting, law_and_integrand, name_and_gradients  # noqa: E402
from jobs.study.nearness import OVER_LAWS, OVER_METHODS, Link, links  # noqa: E402
from jobs.study.open_points import LACKING, open_points, reason_of  # noqa: E402
from jobs.study.page import DATA_FOLDER, FIGURES, FIRST_PAGE, NUMBERS, PAGE_FOLDER, PAGES, answers_of, write  # noqa: E402
from jobs.study.published import (  # noqa: E402
    DIFFERS,
    TABLE,
    Published,
    Reproduction,
    ordered_alike,
    reproductions,
    within,
)
from jobs.study.rivalry import OVER, beside_controls, comparisons, leads, tally  # noqa: E402
from jobs.study.tables import control_table  # noqa: E402
from pipeline.report.statistics import holm, intervals  # noqa: E402

SETTINGS = ("ig-64", "line+product", "noise-0.15")
NAMES = ("ig2", "grad-cam++", "samp++", "smoothgrad-squared")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("data")
    whole_study(folder)
    return Study(folder)


def test_blocks_of_one_group_are_joined_by_image_and_method(tmp_path: Path) -> None:
    core(tmp_path, "mobilenetv2", {"ig": 0.1}, 5, "core-first-000")
    core(tmp_path, "mobilenetv2", {"ssig": 0.1}, 7, "core-rivals-000")
    panel = Study(tmp_path).panel("core", "mobilenetv2")
    assert panel is not None
    assert (len(panel.images), panel.methods) == (7, ("ig", "ssig"))
    assert np.isfinite(panel.of("gap", "ig")).sum() == 5
    np.testing.assert_allclose(panel.of("gap", "ssig"), panel.of("insertion", "ssig") - panel.of("deletion", "ssig"))


@pytest.mark.parametrize(
    ("label", "expected"),
    [*((label, True) for label in SETTINGS), *((label, False) for label in NAMES)],
)
def test_settings_are_no_rivals(label: str, expected: bool) -> None:
    assert is_setting(label) is expected


def test_a_label_says_what_its_method_is() -> None:
    """Names of methods may end in a plus, and in a number of their own."""
    labels = ("ssig", "samp++", "ig2", "captum:LRP", "line+squared", "uniform-channel+gradient", "ssig-signed-64")
    assert list(filter(None, map(law_and_integrand, labels))) == [("line", "squared"), ("uniform-channel", "gradient")]
    assert list(filter(None, map(name_and_gradients, labels))) == [("ssig-signed", 64)]


def test_methods_with_suppression_in_them_and_controls_are_no_rivals(tmp_path: Path) -> None:
    names = ("ssig", "ssig-attention", "ssig-cam", "idgi-ssig-path", "random", "centre", "ig", "chefer")
    core(tmp_path, "vit-tiny", dict.fromkeys(names, 0.1))
    panel = Study(tmp_path).panel("core", "vit-tiny")
    assert panel is not None
    assert set(rivals(panel)) == {"ig", "chefer"}


def test_a_better_variant_wins_and_a_worse_one_loses(study: Study) -> None:
    rows = comparisons(study)
    for network in ("efficientnet-lite0", OVER):
        assert tally(rows, "ssig-signed", "gap", network) == (2, 0, 0)
        assert tally(rows, "ssig", "gap", network) == (0, 2, 0)
    row = next(row for row in rows if (row.network, row.rival, row.variant) == (OVER, "ig", "ssig-signed"))
    assert row.estimate.count == 4
    assert row.joint is not None
    assert row.joint.low < 0.1 < row.joint.high
    # Where lower is better, the difference is turned.
    assert all(
        abs(row.estimate.mean) < 1e-6 for row in rows if row.measure.column == "deletion" and row.network != OVER
    )


def test_holm_is_over_all_comparisons_of_a_network(study: Study) -> None:
    rows = [row for row in comparisons(study) if row.network == "googlenet"]
    smallest = min(rows, key=lambda row: row.estimate.p)
    assert smallest.p == pytest.approx(min(1, smallest.estimate.p * len(rows)))


def test_the_interval_over_networks_is_that_of_hartung_and_knapp() -> None:
    """The example of three equal errors has a closed form: the mean, and Student's interval of the means."""
    values = [0.1, 0.4, 0.7]
    found = over_networks([mean_like(value, 0.01) for value in values])
    assert found.mean == pytest.approx(0.4)
    half = 4.30265 * np.std(values, ddof=1) / np.sqrt(3)
    assert (found.low, found.high) == (pytest.approx(0.4 - half, rel=1e-4), pytest.approx(0.4 + half, rel=1e-4))
    # Networks that agree too well get no narrower interval than their known errors give.
    alike = over_networks([mean_like(0.4, 0.3) for _ in values])
    assert alike.high - 0.4 == pytest.approx(4.30265 * 0.3 / np.sqrt(3), rel=1e-4)


def mean_like(mean: float, error: float, count: int = 1000) -> Estimate:
    from scipy import stats

    half = stats.t.ppf(0.975, count - 1) * error
    return Estimate(mean, mean - half, mean + half, count)


def test_images_are_drawn_for_all_networks_at_once() -> None:
    """Of two networks with the same numbers the joint interval is that of one, not narrower by the root of two."""
    values = np.random.default_rng(0).normal(size=200)
    both, one = joint(np.stack([values, values], axis=1)), mean_of(values)
    assert (both.high - both.low) == pytest.approx(one.high - one.low, rel=0.1)


def test_noise_at_equal_change_is_farther_and_saturates(study: Study) -> None:
    near = [row for row in contrasts(study, NEARNESS) if row.change > 0.02 and row.estimate.count > 10]
    assert {row.sign for row in near if row.quantity == "distance"} == {-1}
    assert {row.sign for row in near if row.quantity == "kid"} == {-1}
    assert all(abs(row.estimate.mean) < 0.01 for row in near if row.quantity == "spectrum")
    saturated = [row for row in contrasts(study, SATURATION) if row.change > 0.02 and row.estimate.count > 10]
    gradients = [row for row in saturated if row.quantity == "log_gradient"]
    assert all(row.estimate.mean == pytest.approx(3 * row.change, rel=0.4, abs=0.02) for row in gradients)


def test_it_is_said_first_whether_the_default_law_is_farther_than_noise(study: Study) -> None:
    near = contrasts(study, NEARNESS)
    said = answers.nearness(near)
    assert said.startswith("Yes: by kernel distance (KID), ")
    assert "surely nearer than noisy ones on 2 and surely farther on 0 of 2 networks" in said
    everywhere = sentences.nearer_everywhere(near)
    assert everywhere.startswith("Surely nearer by kernel distance on each of 2 networks: ")
    assert "`uniform` at " in everywhere
    points = sentences.contrast(near, "nearer", "farther")
    assert "the law of `ssig` is nearer than noise by kernel distance (−" in points[0]
    assert "not told apart from noise by distance of the spectrum" in points[0]
    turned = [replace(row, estimate=-row.estimate) for row in near]
    said = answers.nearness(turned)
    assert said.startswith("No: ")
    assert "surely farther on 2 of 2 networks" in said
    assert sentences.nearer_everywhere(turned) == (
        "No law at any strength is surely nearer by kernel distance on each of 2 networks."
    )
    assert "the law of `ssig` is farther than noise by kernel distance (+" in " ".join(
        sentences.contrast(turned, "nearer", "farther")
    )


def test_an_image_that_noise_never_changes_as_much_does_not_count(tmp_path: Path) -> None:
    law_block(tmp_path, "mobilenetv2")
    rows = contrasts(Study(tmp_path), ("distance",))
    assert max(row.estimate.count for row in rows) == 40
    weak = [row for row in rows if row.strength == 0.1 and row.law == "uniform"]
    assert weak[0].estimate.count == 40


def test_nearness_certainty_and_faithfulness_are_linked(study: Study) -> None:
    found = {(link.network, link.over, link.first, link.second): link for link in links(study)}
    laws = found["mobilenetv2", "laws", "nearness", "certainty"]
    assert laws.sign == 1
    assert laws.estimate.mean > 0.9
    assert found["mobilenetv2", "images", "certainty", "faithfulness"].sign == 1


def test_methods_with_nearer_samples_are_linked_to_certainty(tmp_path: Path) -> None:
    skill = {"ssig": 0.1, "ssig-signed": 0.2, "ig": 0.3, "smoothgrad": 0.4, "gradient": 0.5, "vargrad": 0.6}
    core(tmp_path, "mobilenetv2", {**skill, "grad-cam": 0.7, "rise": 0.8, "random": 0.0}, 60)
    # More faithful methods have nearer samples; one takes no gradients at points, one is not in the block at all.
    distances = {name: 1 - value for name, value in skill.items()}
    sanity(tmp_path, "mobilenetv2", {**distances, "grad-cam": np.nan, "random": np.nan}, 40)
    found = {(link.first, link.second): link for link in links(Study(tmp_path)) if link.over == OVER_METHODS}
    assert list(found) == [("certainty", "faithfulness"), ("nearness", "certainty"), ("nearness", "faithfulness")]
    for quantity in ("certainty", "faithfulness"):
        near = found["nearness", quantity]
        assert (near.sign, near.estimate.count, near.images) == (1, len(skill), 40)
    assert found["certainty", "faithfulness"].estimate.count == len(skill) + 2
    sentence = sentences.over_methods(list(found.values()))
    assert "of nearness and certainty is above 0 on 1 of 1 networks (N = 40)" in sentence
    sanity(tmp_path, "mobilenetv2", skill, 40)
    found = {(link.first, link.second): link for link in links(Study(tmp_path)) if link.over == OVER_METHODS}
    assert found["nearness", "certainty"].sign == -1
    sentence = sentences.over_methods(list(found.values()))
    assert "of nearness and certainty is above 0 on 0 and below 0 on 1 of 1 networks" in sentence


def test_the_points_of_the_figure_are_laws_and_no_floors(study: Study) -> None:
    laws = links(study)[0].estimate.count
    figure = nearness_figure(study)
    assert figure is not None
    for axes in figure.axes:
        assert sum(len(line.get_xdata()) for line in axes.get_lines()) == laws


def test_a_third_quantity_is_taken_off() -> None:
    draws = np.random.default_rng(1)
    common = draws.normal(size=400)
    first, second = (common + 0.3 * draws.normal(size=400) for _ in range(2))
    assert partial_rank_correlation(first, second, np.empty((400, 0))).mean > 0.8
    taken = partial_rank_correlation(first, second, common[:, None])
    assert taken.low < 0.05
    assert abs(taken.mean) < 0.2


def test_few_images_give_no_rank_correlation_and_shares_stay_in_range() -> None:
    few = np.random.default_rng(3).normal(size=(9, 6))
    found, images = rank_correlation(few, few)
    assert np.isnan(found.mean)
    assert images == 9
    share = share_of(np.array([1.0] * 9 + [np.nan]))
    assert (share.count, share.high) == (9, 1.0)
    assert 0.6 < share.low < 1


def test_methods_without_numbers_are_left_out_of_a_rank_correlation() -> None:
    first = np.random.default_rng(2).normal(size=(30, 5)) + np.arange(5)
    second = first * 2
    second[:, 0] = np.nan
    second[:7, 1] = np.nan
    found, images = rank_correlation(first, second)
    assert (found.count, found.mean, images) == (4, 1.0, 23)


def test_an_agreement_says_how_many_images_it_is_of(tmp_path: Path) -> None:
    """A method of fewer images takes no images away from the others: it is left out."""
    skill = {name: place / 10 for place, name in enumerate(("ssig", "ssig-path", "ig", "smoothgrad", "vargrad"))}
    core(tmp_path, "mobilenetv2", skill | {"random": 0.0}, 40)
    core(tmp_path, "mobilenetv2", {"spi": 0.8}, 12, "core-second-000")
    core(tmp_path, "vit-tiny", skill | {"spi": 0.9}, 12)
    rows = agreements(Study(tmp_path))
    sizes = {(row.first[0], row.second[0]): (row.estimate.count, row.images) for row in rows}
    assert sizes == {
        ("mobilenetv2", "mobilenetv2"): (5, 40),
        ("vit-tiny", "vit-tiny"): (6, 12),
        ("mobilenetv2", "vit-tiny"): (6, 12),
    }


def test_networks_that_differ_in_nothing_show_no_effect_of_augmentation(study: Study) -> None:
    answer = augmentation(study)
    assert answer is not None
    assert answer.contrasts[DIFFERENCE].low < 0 < answer.contrasts[DIFFERENCE].high
    said = answers.augmentation(answer)
    assert said.startswith("No: where training has heavy augmentation, the mean of 2 rivals is above random maps by ")
    assert " on 2 of 2 networks (0." in said
    assert re.search(r", against 0\.\d+ \[.*\] on GoogLeNet where augmentation is light; N = 40\)\.$", said)
    more = sentences.change_of_augmentation(answer)
    assert more.startswith("From light augmentation to heavy, what a group has over random maps changes by ")
    assert more.endswith("so this shows no cause.")


def test_failing_rivals_on_augmented_networks_are_found(tmp_path: Path) -> None:
    skill = {"ssig": 0.4, "ig": 0.4, "random": 0.0}
    core(tmp_path, "googlenet", skill)
    for network in ("vit-tiny", "mobilenetv2"):
        core(tmp_path, network, {**skill, "ig": 0.1})
    answer = augmentation(Study(tmp_path))
    assert answer is not None
    assert answer.contrasts[DIFFERENCE].mean == pytest.approx(0.3, abs=0.02)
    assert answers.augmentation(answer).startswith("In part: ")  # worse, and still better than random maps
    for network in ("vit-tiny", "mobilenetv2"):
        core(tmp_path, network, {**skill, "ig": -0.1})
    assert answers.augmentation(augmentation(Study(tmp_path))).startswith("Yes: ")


def test_the_best_integrand_and_the_least_cost_are_found(study: Study) -> None:
    found = {(row.network, row.measure.column): row for row in best(study)}
    assert found["mobilenetv2", "gap"].label == "noise+product"
    curve = next(row for row in costs(study) if (row.network, row.method) == ("mobilenetv2", "ig"))
    assert curve.gradients == (4, 16, 32, 64, 256)
    cheapest = curve.least(curve.quality[1].mean)
    assert cheapest == 16
    assert curve.least(10.0) is None


def is_one(row: Agreement) -> bool:
    return row.first[0] == row.second[0]


def test_measures_that_follow_one_quantity_agree(study: Study) -> None:
    rows = agreements(study)
    pair = next(row for row in rows if (row.first[1].column, row.second[1].column) == ("insertion", "diffid"))
    assert pair.estimate.mean >= 0.8  # of four methods, two are nearly equal
    assert not any({row.first[1].column, row.second[1].column} == {"gap", "insertion"} for row in rows if is_one(row))
    assert {row.estimate.count for row in rows if is_one(row) and np.isfinite(row.estimate.mean)} == {4}  # no control


def test_the_worth_of_a_measure_is_the_share_of_images_that_it_judges_right(study: Study) -> None:
    found = {
        (row.measure.column, row.against, row.method): row.share
        for row in worths(study)
        if row.network == "mobilenetv2"
    }
    assert found["gap", WEIGHTS, "ig"].mean == 1
    assert found["gap", WEIGHTS, "ig"].count == 40
    assert 0.85 < found["gap", WEIGHTS, "ig"].low < found["gap", WEIGHTS, "ig"].high <= 1
    assert found["gap", SAMPLES, "ig"].mean == 1  # .4 over .2
    assert found["gap", CONTROL, "ssig"].mean > 0.95
    assert found["roc_auc", CONTROL, "ssig"].mean == pytest.approx(0.5, abs=0.2)
    assert ("gap", SAMPLES, "grad-cam") not in found


def test_equal_numbers_count_half_in_a_share() -> None:
    share = preferred(np.array([1.0, 0.0, 0.0, -1.0, 2.0, np.nan]))
    assert (share.mean, share.count) == (0.6, 5)
    assert share.low < 0.6 < share.high


def test_what_beats_the_default_on_every_network_is_named(tmp_path: Path) -> None:
    for network in ("efficientnet-lite0", "mobilenetv2"):
        core(tmp_path, network, {"ssig": 0.3, "ig": 0.9})
        both = {"uniform+product": 0.5, "noise+squared": 0.1 if network == "mobilenetv2" else 0.5, "ssig-256": 0.3}
        core(tmp_path, network, both, name="core-readouts-000")
    rows = rises(Study(tmp_path))
    assert {row.candidate for row in rows} == {"uniform+product", "noise+squared", "ssig-256"}
    assert better(rows) == ["uniform+product"]
    assert higher(rows) == []
    said = sentences.default(rows)
    assert "1 of 3 laws" in said
    assert "`uniform+product`" in said
    assert sentences.default([row for row in rows if row.candidate == "ssig-256"]).startswith("None so far, of 1 ")
    assert sentences.default([]).startswith("None so far")


def test_a_candidate_of_one_network_is_not_counted(tmp_path: Path) -> None:
    for network in ("efficientnet-lite0", "mobilenetv2"):
        core(tmp_path, network, {"ssig": 0.3, "ssig-path": 0.2})
    core(tmp_path, "mobilenetv2", {"uniform+product": 0.5}, name="core-readouts-000")
    assert "of 1 laws, integrands and costs (1 on 2 networks)" in sentences.default(rises(Study(tmp_path)))


def test_methods_of_few_images_are_counted_apart_and_left_out_of_the_link(tmp_path: Path) -> None:
    names = ("ssig", "ssig-path", "ig", "smoothgrad", "gradient", "vargrad")
    core(tmp_path, "mobilenetv2", {name: place / 10 for place, name in enumerate(names)}, 60)
    (alone,) = links(Study(tmp_path))
    core(tmp_path, "mobilenetv2", {"uniform+product": 5.0, "noise+squared": -5.0}, 7, "core-readouts-000")
    core(
        tmp_path, "mobilenetv2", {"ig-64": 5.0, "ig-256": -5.0}, 60, "core-costs-000"
    )  # no methods of their own names
    study = Study(tmp_path)
    (link,) = links(study)
    assert link.estimate.count == alone.estimate.count
    assert link.estimate.mean == pytest.approx(alone.estimate.mean, abs=1e-9)
    assert coverage(study)[1][1] == "60 images, 8 methods; 7 images, 2 methods"


def test_a_higher_gap_with_a_lower_roc_auc_is_not_better(tmp_path: Path) -> None:
    for network in ("efficientnet-lite0", "mobilenetv2"):
        core(tmp_path, network, {"ssig": 0.3})
        core(tmp_path, network, {"uniform+product": 0.5}, name="core-readouts-000")
    rows = [
        replace(row, estimate=-row.estimate, p=0.001) if row.measure.column == "roc_auc" else row
        for row in rises(Study(tmp_path))
    ]
    rows = [
        replace(row, estimate=replace(row.estimate, mean=-0.1)) if row.measure.column == "roc_auc" else row
        for row in rows
    ]
    assert better(rows) == []
    assert higher(rows) == ["uniform+product"]


def test_what_a_variant_loses_is_said_first(tmp_path: Path) -> None:
    core(tmp_path / "data", "mobilenetv2", {"ssig": 0.3, "ssig-path": 0.5, "spi": 0.7, "ig": 0.4, "random": 0.0})
    page = write(tmp_path / "data", tmp_path)[0].read_text()
    lost = "No: by insertion minus deletion the best variant surely loses to a rival on 1 of 1 networks"
    assert lost in page
    assert page.index(lost) < page.index("it surely beats 1 of 2 rivals, surely loses to 1")
    assert re.search(r" \(on MobileNetV2 `spi` is 0\.\d+ \[.+\] ahead of `ssig-path`; N = ", page)
    assert "- By insertion minus deletion on 1 of 1 networks, by most on MobileNetV2: `spi` is 0." in page
    (lead,) = (
        row
        for row in leads(Study(tmp_path / "data"), comparisons(Study(tmp_path / "data")))
        if row.measure.column == "insertion"
    )
    assert (lead.variant, lead.rival) == ("ssig-path", "spi")


def test_a_rival_of_fewer_networks_is_said_to_be_of_these(tmp_path: Path) -> None:
    names = ("efficientnet-lite0", "mobilenetv2", "vit-tiny", "googlenet")
    for number, network in enumerate(names):
        core(tmp_path, network, {"ssig": 0.2, "ig": 0.1, **({"spi": 0.6} if number else {})}, 30, "core-first-000")
    said = sentences.rivalry(comparisons(Study(tmp_path)))
    assert said.startswith("By insertion minus deletion over 4 networks (N = 30), ")
    assert re.search(r"It is behind the hardest rival, `spi`, by 0\.\d+ \[.*\] over 3 networks\.", said)


def test_the_study_at_a_glance_has_both_means_and_who_is_ahead(tmp_path: Path) -> None:
    core(tmp_path, "mobilenetv2", {"ssig": 0.3, "ssig-path": 0.5, "ig": 0.4, "random": 0.0}, 60)
    core(tmp_path, "mobilenetv2", {"spi": 0.8}, 20, "core-second-000")
    core(tmp_path, "vit-tiny", {"ssig": 0.5, "ig": 0.2}, 60)
    study = Study(tmp_path)
    head, first, second = glance_table(study, leads(study, comparisons(study)))
    assert head[:2] == ["network", "insertion minus deletion"]
    assert re.fullmatch(r"`ssig-path` 0\.\d{3} \*\*behind\*\* `spi` 0\.\d{3} \(20\)", first[1])
    assert re.fullmatch(r"`ssig` 0\.\d{3} \*\*ahead of\*\* `ig` 0\.\d{3} \(60\)", second[1])
    # The means are those of the images that both have.
    panel = study.panel("core", "mobilenetv2")
    assert panel is not None
    both = np.isfinite(panel.of("gap", "spi"))
    assert first[1].startswith(f"`ssig-path` {panel.of('gap', 'ssig-path')[both].mean():.3f}")


def test_the_hardest_rival_is_one_that_is_surely_ahead(tmp_path: Path) -> None:
    """A rival with a worse mean difference that no test is sure of hides no loss."""
    core(tmp_path, "mobilenetv2", {"ssig": 0.3, "ig": 0.36, "random": 0.0}, 30)
    core(tmp_path, "mobilenetv2", {"spi": 0.5}, 3, "core-second-000")  # too few images for a test
    rows = comparisons(Study(tmp_path))
    (lead,) = (row for row in leads(Study(tmp_path), rows) if row.measure == GAP)
    assert (lead.rival, lead.sign) == ("ig", -1)
    assert min(row.estimate.mean for row in rows if row.measure == GAP) < lead.estimate.mean
    assert tally(rows, "ssig", "gap", "mobilenetv2") == (0, 1, 0)  # what is not tested is not "not told apart"


def test_two_networks_give_no_number_over_networks(tmp_path: Path) -> None:
    for network in ("efficientnet-lite0", "mobilenetv2", "vit-tiny"):
        core(tmp_path, network, {"ssig": 0.3, "ig": 0.2, **({} if network == "vit-tiny" else {"spi": 0.4})})
    rows = [row for row in comparisons(Study(tmp_path)) if row.network == OVER and row.measure == GAP]
    assert [(row.rival, row.estimate.count) for row in rows] == [("ig", 3)]


def test_differences_that_only_their_own_interval_tells_have_a_sign_of_their_own(tmp_path: Path) -> None:
    core(tmp_path, "mobilenetv2", {"ssig": 0.3, "ig": 0.3})
    study = Study(tmp_path)
    (row,) = (row for row in leads(study, comparisons(study)) if row.measure == GAP)
    for sign, p, expected in (
        (-1, 0.2, "perhaps behind"),
        (1, 0.2, "perhaps ahead of"),
        (-1, 0.01, "**behind**"),
        (1, 0.01, "**ahead of**"),
    ):
        told = replace(row, estimate=Estimate(0.1 * sign, 0.1 * sign - 0.05, 0.1 * sign + 0.05, 60, 0.01), p=p)
        assert re.fullmatch(rf"`ssig` \S+ {re.escape(expected)} `ig` \S+ \(60\)", glance_table(study, [told])[1][1])
    level = replace(row, estimate=Estimate(0.01, -0.05, 0.05, 60, 0.9), p=1.0)
    assert " not told from `ig`" in glance_table(study, [level])[1][1]


def test_where_a_control_is_not_beaten_is_shown(tmp_path: Path) -> None:
    core(tmp_path, "mobilenetv2", {"ssig": 0.3, "ssig-path": 0.5, "ig": 0.4, "random": 0.0, "centre": 0.7})
    study = Study(tmp_path)
    rows = beside_controls(study, leads(study, comparisons(study)))
    found = {(row.measure.column, row.variant, row.rival): row.sign for row in rows}
    assert found["gap", "ssig-path", "centre"] == -1
    assert found["gap", "ssig-path", "random"] == 1
    shown = [row[1:4] for row in control_table(rows)]
    assert ["insertion minus deletion", "`ssig-path`", "`centre`"] in shown
    assert ["insertion minus deletion", "`ssig-path`", "`random`"] not in shown


def test_a_rival_that_was_not_tested_is_the_hardest_only_alone(tmp_path: Path) -> None:
    core(tmp_path, "mobilenetv2", {"ssig": 0.5, "ig": 0.3, "random": 0.0}, 30)
    core(tmp_path, "mobilenetv2", {"spi": 0.9}, 5, "core-second-000")
    rows = comparisons(Study(tmp_path))
    (lead,) = (row for row in leads(Study(tmp_path), rows) if row.measure == GAP)
    assert (lead.rival, lead.sign) == ("ig", 1)


def test_a_mean_has_the_interval_that_reports_give_it_and_few_differences_no_test() -> None:
    values = np.random.default_rng(4).exponential(size=40) ** 2
    found, theirs = mean_of(values), intervals(values[:, None])
    assert (found.low, found.high) == (float(theirs.low[0]), float(theirs.high[0]))
    assert found.high - found.mean > found.mean - found.low  # skewed as the numbers are
    assert np.isnan(mean_difference(np.array([0.1, 0.1001])).p)
    assert mean_difference(np.full(10, 0.1) + np.arange(10) / 1000).p < 0.05


def test_further_images_of_some_methods_leave_no_other_out(tmp_path: Path) -> None:
    skill = {name: place / 10 for place, name in enumerate(("ssig", "ssig-path", "ig", "smoothgrad", "vargrad"))}
    core(tmp_path, "mobilenetv2", skill | {"random": 0.0}, 200)
    core(tmp_path, "mobilenetv2", {"spi": 0.8, "samp": 0.7}, 120, "core-second-000")
    core(tmp_path, "mobilenetv2", {"rise": 0.8}, 25, "core-rivals-000")
    core(tmp_path, "vit-tiny", skill | {"spi": 0.8, "samp": 0.7}, 120)
    rows = agreements(Study(tmp_path))
    sizes = {(row.first[0], row.second[0]): (row.estimate.count, row.images) for row in rows}
    assert set(sizes.values()) == {(7, 120)}
    (link,) = (row for row in links(Study(tmp_path)) if row.over == OVER_METHODS and row.network == "mobilenetv2")
    assert (link.estimate.count, link.images) == (7, 120)
    # Nor do all images of a few methods.
    core(tmp_path, "resnet50", skill | {"ig2": 0.2, "agi": 0.3, "idgi-ig": 0.1}, 25)
    core(tmp_path, "resnet50", {"spi": 0.8, "samp": 0.7, "mfaba": 0.5}, 100, "core-second-000")
    panel = Study(tmp_path).panel("core", "resnet50")
    assert panel is not None
    assert len(panel.ranked()) == 25


def test_blocks_that_have_the_same_numbers_are_refused(tmp_path: Path) -> None:
    core(tmp_path, "mobilenetv2", {"ssig": 0.3}, 5)
    core(tmp_path, "mobilenetv2", {"ssig": 0.4}, 5, "core-second-000")
    with pytest.raises(ValueError, match="two blocks of core on mobilenetv2 have the same image and method"):
        Study(tmp_path).panel("core", "mobilenetv2")


def test_noise_saturates_where_its_gradients_are_below_the_images_own(study: Study) -> None:
    rows = contrasts(study, SATURATION)
    said = answers.saturation(rows)
    own = answers.own_law(rows, "log_gradient")
    assert all(row.level.mean - row.of_noise.mean == pytest.approx(row.estimate.mean) for row in own)
    ratio = np.exp(own[0].of_noise.mean)
    assert f" and {ratio:.3f} [" in said

    def both(level: float, of_noise: float) -> str:
        sides = {"level": mean_like(level, 0.01), "of_noise": mean_like(of_noise, 0.01)}
        return answers.saturation(
            [replace(row, estimate=mean_like(level - of_noise, 0.01), p=0.001, **sides) for row in own]
        )

    assert both(0.2, -0.3).startswith("Yes, by the gradient: ")
    assert both(0.5, 0.2).startswith("In part: ")  # noise does not saturate
    assert both(-0.1, -0.3).startswith("In part: ")  # suppression does, too
    assert both(-0.3, -0.1).startswith("No: ")


def test_a_difference_that_can_be_found_shrinks_with_the_images(tmp_path: Path) -> None:
    core(tmp_path, "mobilenetv2", {"ssig": 0.3, "ig": 0.2}, 25)
    core(tmp_path, "vit-tiny", {"ssig": 0.3, "ig": 0.2}, 100)
    said = sentences.detectable(comparisons(Study(tmp_path)))
    found = re.findall(r"(0\.\d+) on (\w+)", said.replace("ViT-Tiny", "ViT"))
    assert [network for _, network in found] == ["MobileNetV2", "ViT"]
    assert float(found[0][0]) > 1.5 * float(found[1][0])
    assert sentences.detectable([]) == ""


def test_a_study_without_maps_or_of_one_network_is_said_in_whole_sentences(tmp_path: Path) -> None:
    """Nothing crashes, and nothing is promised that is not there."""
    core(tmp_path / "a", "mobilenetv2", {"ssig": 0.3, "ig": 0.2}, name="sanity-first-000")
    first = tmp_path / "README.md"
    first.write_text(FIRST_PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    page = write(tmp_path / "a", tmp_path / "page", first)[0].read_text()
    assert first.read_text(encoding="utf-8") == FIRST_PAGE.read_text(encoding="utf-8")
    assert "tables.md#" not in page.replace("tables.md#laws", "")
    assert "weak checks" not in page
    law_block(tmp_path / "b", "mobilenetv2")
    near = contrasts(Study(tmp_path / "b"), NEARNESS)
    assert " by kernel distance on MobileNetV2: " in sentences.nearer_everywhere(near)
    assert sentences.nearer_everywhere([]) == ""


def test_every_planned_block_is_missed_until_it_is_there() -> None:
    more = {"gig", "sig", "spi", "samp"}  # of published tables
    planned = {(block.metrics, block.methods) for block in blocks() if block.metrics not in more}
    assert planned == LACKING.keys()


def test_the_numbers_of_augmentation_are_of_the_same_images(tmp_path: Path) -> None:
    skill = {**dict.fromkeys(VARIANTS, 0.4), "ig": 0.3, "random": 0.0}
    for network in ("googlenet", "vit-tiny", "mobilenetv2"):
        core(tmp_path, network, skill, 40)
        core(tmp_path, network, {"spi": 0.2}, 12, "core-second-000")
    answer = augmentation(Study(tmp_path))
    assert answer is not None
    assert {each.count for each in (*answer.contrasts.values(), *(level.estimate for level in answer.levels))} == {12}
    suppression, rival, both = (answer.contrasts[name].mean for name in (SUPPRESSION, RIVALS, DIFFERENCE))
    assert both == pytest.approx(suppression - rival)


def test_the_law_of_the_default_is_no_candidate(tmp_path: Path) -> None:
    for network in ("efficientnet-lite0", "mobilenetv2"):
        core(tmp_path, network, {"ssig": 0.3, "uniform+magnitude": 0.3, "uniform+product": 0.2})
    assert {row.candidate for row in rises(Study(tmp_path))} == {"uniform+product"}


def test_the_best_of_many_is_told_apart_by_all_pairs(tmp_path: Path) -> None:
    labels = {f"law{place}+product": 0.3 for place in range(12)}
    core(tmp_path, "mobilenetv2", labels, 25)
    found = next(row for row in best(Study(tmp_path)) if row.measure == GAP)
    panel = Study(tmp_path).panel("core", "mobilenetv2")
    assert panel is not None
    names = [name for name, _ in found.order]
    pairs = [difference(panel.of("gap", one), panel.of("gap", other)).p for one, other in combinations(names, 2)]
    expected = [name for name, p in zip(names[1:], holm(np.array(pairs)), strict=False) if not p < 0.05]
    assert list(found.level) == expected
    assert len(found.level) == 11  # all are equal in truth


def test_a_quality_is_reached_where_it_is_kept() -> None:
    def quality(*means: float) -> Cost:
        return Cost("vit-tiny", "ig", (4, 16, 32), tuple(Estimate(mean, 0, 1, 25) for mean in means))

    assert quality(0.5, 0.2, 0.5).least(0.4) == 32
    assert quality(0.2, 0.4, 0.5).least(0.4) == 16
    assert quality(0.5, 0.5, 0.3).least(0.4) is None


def test_rivals_without_a_curve_that_are_there_are_named(tmp_path: Path) -> None:
    core(tmp_path, "mobilenetv2", {"ssig": 0.3, "ig": 0.6, "spi": 0.7, "samp": 0.1, "random": 0.0})
    core(tmp_path, "mobilenetv2", {"ssig-16": 0.2, "ssig-64": 0.4}, name="core-costs-000")
    study = Study(tmp_path)
    panel = study.panel("core", "mobilenetv2")
    assert panel is not None
    quality = panel.of("gap", "spi").mean() - 0.02
    curves = costs(study)
    assert reached(study, curves, quality) == {"mobilenetv2": ["spi"]}  # `ig` is one of those whose curves are planned
    said = sentences.reached(reached(study, curves, quality))
    assert said.startswith("of rivals measured with one number of gradients only, `spi` on MobileNetV2 reach 0.450 ")


def test_a_law_is_compared_at_the_change_of_the_samples_themselves(tmp_path: Path) -> None:
    """Of a law in strata, the one sample whose features are taken changes an image more or less than all do."""
    law_block(tmp_path, "mobilenetv2")
    path = tmp_path / "mobilenetv2" / "laws.parquet"
    rows, kept = block_file.read(path)
    law = np.array(rows["law"].to_pylist())
    own, change = law == "bernoulli", rows["change"].to_numpy().copy()
    moved = np.where(own, change * np.where(np.arange(len(law)) // len(laws.settings()) % 2, 1.1, 0.7), change)
    distance = np.where(law == "noise", 2 * moved, moved).astype(np.float32)
    for name, values in (("sample_change", moved.astype(np.float32)), ("distance", distance)):
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
    block_file.write(path, rows, kept)
    found = {
        (row.law, row.quantity): row.estimate
        for row in contrasts(Study(tmp_path), ("distance", "probability"))
        if row.law == "bernoulli"
    }
    assert found["bernoulli", "distance"].mean == pytest.approx(-float(np.mean(moved[own])), rel=0.02)


def test_laws_are_compared_with_noise_of_the_same_integrand(tmp_path: Path) -> None:
    skill = {"noise+magnitude": 0.5, "uniform+magnitude": 0.3, "patch-14+magnitude": 0.2}
    core(tmp_path, "mobilenetv2", skill | {"noise+gradient": 0.2, "uniform+gradient": 0.5, "line+squared": 0.9})
    rows = [row for row in against_noise(Study(tmp_path)) if row.measure.column != "roc_auc"]
    assert {(row.law, row.integrand, row.sign) for row in rows} == {
        ("uniform", "magnitude", -1),
        ("patch-14", "magnitude", -1),
        ("uniform", "gradient", 1),
    }
    magnitudes, signed = sentences.noise(rows)
    assert magnitudes == (
        "With the integrand of `ssig`, of 2 laws of suppression on MobileNetV2 (N = 60) 2 are worse than noise by "
        "insertion minus deletion, 2 by DiffID and 2 by certainty, and none is better than noise by any metric."
    )
    assert "none is worse than noise by any metric, and 1 is better than noise by insertion minus deletion" in signed
    assert answers.noise(rows) == (
        "By insertion minus deletion on MobileNetV2, of 2 laws of suppression with the integrand of `ssig`, none is "
        "surely better than noise and `uniform` and `patch-14` surely worse; of 1 law of suppression with the "
        "integrand of `ssig-signed`, `uniform` is surely better than noise and none surely worse (N = 60)."
    )
    assert answers.noise([]) == answers.UNMEASURED


def test_curves_of_fewer_images_are_named(tmp_path: Path) -> None:
    core(tmp_path, "mobilenetv2", {"ig": 0.4, "ssig": 0.3}, 30)
    core(tmp_path, "mobilenetv2", {"spi": 0.8, "ig-64": 0.1}, 10, "core-second-000")
    study = Study(tmp_path)
    said = sentences.of_fewer(study, ("ig", "ssig", "spi"))
    assert said.startswith("On MobileNetV2 the curves are means over 10 images (`spi`) and 30 (all others). ")
    assert sentences.of_fewer(study, ("ig", "ssig")) == ""


def test_mean_curves_weigh_blocks_by_their_images(tmp_path: Path) -> None:
    core(tmp_path, "mobilenetv2", {"ig": 0.4}, 30, "core-first-000")
    core(tmp_path, "mobilenetv2", {"ig": 0.8}, 10, "core-first-100")
    curve = Study(tmp_path).curves("mobilenetv2", "insertion_curve")["ig"]
    assert curve[-1] == pytest.approx(0.5)


def test_a_figure_gives_the_numbers_that_it_is_drawn_from() -> None:
    figure, axes = grid(1, 1, 100, 100)
    axes[0][0].plot([0, 1], [0.5, np.nan], label="a")
    axes[0][0].imshow([[1.0, 2.0]])
    axes[0][0].set_title("t", loc="left")
    line = {"label": "a", "x": [0, 1], "y": [0.5, None]}
    assert numbers_of(figure) == [{"title": "t", "lines": [line], "matrices": [[[1.0, 2.0]]]}]


def test_a_legend_is_no_wider_than_its_figure() -> None:
    figure, axes = grid(1, 1, 300, 200)
    for place in range(7):
        axes[0][0].plot([0, 1], [0, place], label=f"a long name {place}")
    legend(figure, axes[0][0], 4)
    assert figure.legends[0].get_window_extent().width <= figure.bbox.width
    assert len(figure.legends) == 1


def test_published_numbers_stand_beside_ours(study: Study) -> None:
    rows = {row.published.shown: row for row in reproductions(study) if row.published.paper == "Guided IG"}
    assert rows["IG"].ours is not None
    assert rows["IG"].ours.count == 40
    assert rows["XRAI + Guided IG"].ours is None
    further = [row for row in rows.values() if row.published.value is None]
    assert [row.published.shown for row in further] == ["`ssig`"]
    assert further[0].ours is not None
    assert sentences.reproduction(list(rows.values())).startswith("Of 2 published numbers, ")


def test_published_and_own_numbers_are_compared() -> None:
    def row(measure: str, value: float | None, ours: tuple[float, float, float] | None) -> Reproduction:
        estimate = None if ours is None else Estimate(*ours, count=9)
        return Reproduction(Published("SPI", "m", measure, value, "resnet18", "spi", "ig", measure), estimate)

    rows = [
        row("insertion", 0.1, (0.2, 0.1, 0.3)),
        row("insertion", 0.2, (0.3, 0.25, 0.35)),
        row("insertion", 0.3, (0.1, 0.0, 0.2)),
        row("insertion", 0.4, None),
        row("insertion", 0.2, (0.5, 0.4, 0.6)),  # as high as another: no order
        row("deletion", 0.4, (0.4, 0.4, 0.4)),
        row("insertion", None, (0.5, 0.4, 0.6)),  # a method that the paper does not have
    ]
    assert within(rows) == 2
    assert ordered_alike(rows) == (2, 5)
    assert sentences.reproduction(rows) == (
        "Of 5 published numbers, 2 lie within our interval. Of 5 pairs of methods, 2 have the published order."
    )
    assert sentences.reproduction([row("deletion", 0.4, None)]) == ""
    assert set(DIFFERS) == {each.paper for each in TABLE}


def test_verdicts_follow_the_numbers() -> None:
    def link(first: str, second: str, low: float, high: float) -> Link:
        return Link("mobilenetv2", OVER_LAWS, first, second, Estimate((low + high) / 2, low, high, 21), 25)

    near, certain = ("nearness", "certainty"), ("certainty", "faithfulness")
    for bounds, verdict in (
        (((0.1, 0.5), (0.1, 0.5)), "Yes"),
        (((-0.1, 0.5), (0.1, 0.5)), "In part"),
        (((-0.1, 0.5), (-0.5, -0.1)), "No"),
        (((-0.1, 0.5), (-0.1, 0.5)), "Not shown"),
    ):
        said = answers.links([link(*near, *bounds[0]), link(*certain, *bounds[1])])
        assert said.startswith(f"{verdict}: ")
        assert said.count("N = 25") == 2
        assert ("faithfulness rises with certainty on 0 and falls on 1 of 1 networks (" in said) is (verdict == "No")

    def pair(low: float, network: str = "mobilenetv2") -> Agreement:
        return Agreement((network, GAP), ("mobilenetv2", GAP), Estimate(low + 0.1, low, low + 0.2, 9), 25)

    assert answers.agreement([pair(0.1), pair(0.2)], []).startswith("Yes: ")
    assert answers.agreement([pair(0.1), pair(-0.2), pair(0.3, "vit-tiny")], []).startswith("In part: ")
    assert answers.agreement([pair(-0.2)], []).startswith("No: ")
    never = Cost("vit-tiny", "ig", (4, 256), (Estimate(0.1, 0, 0.2, 25), Estimate(0.2, 0.1, 0.3, 25)))
    assert answers.choice([], [never], {}) == "Nothing reaches 0.450 on ViT-Tiny (256, N = 25)."
    for empty in (answers.links([]), answers.agreement([], []), answers.choice([], [], {}), answers.rivalry([], [])):
        assert empty == answers.UNMEASURED


def test_the_page_has_an_answer_and_a_figure_for_each_question(study: Study, tmp_path: Path) -> None:
    files = write(study.files[0].parents[1], tmp_path)
    page = files[0].read_text()
    assert "Not measured yet" not in page
    assert "nan" not in page
    assert re.findall(r"^## (\d)", page, re.MULTILINE) == list("1234567")
    for each in answers.in_short(answers_of(study))[: answers.SECTIONS]:
        assert each.sentence.endswith(".")
        assert not re.search(r"\.\s", each.sentence), "one sentence"
        assert "N = " in each.sentence
        assert not set("([)]") & set(each.short), "no intervals, images or networks"
        assert page.count(f"| {each.short} |\n") == 1  # at the top
        assert page.count(f"\n**{each.sentence}**\n") == 1  # under its heading
    assert "laws, integrands and costs (" in re.findall(r"^## A better default\n\n.*\n\n(.*)", page, re.MULTILINE)[0]
    tables = files[1].read_text()
    assert "SIC of the median curve" in tables
    assert "nan" not in tables
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)", tables, re.MULTILINE)}
    assert set(re.findall(r"tables\.md#([\w-]+)", page)) <= headings
    assert (
        "Measured so far: 0 of 75 blocks of measurements. The rest takes" in page
    )  # the files have a definition of their own
    shown = re.findall(r"\(figures/([\w-]+\.svg)\)", page)
    assert sorted(shown) == sorted(path.name for path in files[len(PAGES) :])
    assert len(shown) == 9
    for path in files[len(PAGES) :]:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    assert write(study.files[0].parents[1], tmp_path)[0].read_text() == page


def test_what_a_network_lacks_is_said_until_it_is_measured(tmp_path: Path) -> None:
    core(tmp_path, "efficientnet-lite0")
    core(tmp_path, "vit-tiny")
    points = open_points(Study(tmp_path))
    assert "The core metrics are not measured on MobileNetV2, GoogLeNet and ResNet-50." in points
    newer = "Newer rivals, among them `samp++`, `spi` and `mfaba`, are not measured on "
    assert newer + "EfficientNet-Lite0 and ViT-Tiny." in points
    assert "Question 6 lacks the curve of quality against gradients on EfficientNet-Lite0." in points  # planned there
    core(tmp_path, "vit-tiny", name="core-second-000")
    core(tmp_path, "efficientnet-lite0", name="core-costs-000")
    points = open_points(Study(tmp_path))
    assert newer + "EfficientNet-Lite0." in points
    assert not any("against gradients" in point for point in points)
    further = "Further rivals, among them `score-cam`, `occlusion` and `captum:KernelShap`, are not measured "
    assert further + "on EfficientNet-Lite0 and ViT-Tiny." in points
    reason = "a &lt;class 'Part'&gt; has no attention."  # the first sentence of the command's
    refused = [point for point in points if "cannot run" in point]
    assert refused == [f"EfficientNet-Lite0 and ViT-Tiny cannot run `ssig-attention`: {reason}"]
    core(tmp_path, "efficientnet-lite0", name="core-rivals-000")
    assert further + "on ViT-Tiny." in open_points(Study(tmp_path))  # where none are planned, too


def test_what_captum_lacks_is_said_in_words() -> None:
    line = (
        "error: methods.captum:LRP: found 'captum:LRP'; allowed: a method that the network can run: Captum's LRP "
        "cannot explain this network: TypeError: Module of type <class 'timm.layers.conv2d_same.Conv2dSame'> has no "
        "rule defined and nodefault rule exists for this module type."
    )
    assert reason_of(line) == "Captum has no rule for its `Conv2dSame`"


def test_a_study_without_data_says_so(tmp_path: Path) -> None:
    path, _ = write(tmp_path / "none", tmp_path / "page")
    assert "Nothing is measured yet." in path.read_text()


def test_the_published_page_and_figures_say_what_the_published_data_say(tmp_path: Path) -> None:
    first = tmp_path / "README.md"
    first.write_text(FIRST_PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    files = write(DATA_FOLDER, tmp_path, first)
    hint = "type `make study-figures`"
    assert FIRST_PAGE.read_text(encoding="utf-8") == first.read_text(encoding="utf-8"), hint
    for name, file in zip(PAGES, files, strict=False):
        assert (PAGE_FOLDER / name).read_text(encoding="utf-8") == file.read_text(encoding="utf-8"), hint
    folders = PAGE_FOLDER / FIGURES, tmp_path / FIGURES
    made, expected = (sorted(path.name for path in folder.glob("*")) for folder in folders)
    assert made == expected, hint
    if expected:
        published, rebuilt = (json.loads((folder / NUMBERS).read_text()) for folder in folders)
        assert_alike(published, rebuilt)


def assert_alike(first: Any, second: Any) -> None:
    """Nested numbers are equal but for the last place."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            assert_alike(first[name], second[name])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_alike(one, other)
    else:
        assert first == (pytest.approx(second, abs=2e-4) if isinstance(second, float) else second)


def test_the_published_data_are_small() -> None:
    assert sum(path.stat().st_size for path in DATA_FOLDER.rglob("*.parquet")) <= MOST_BYTES

"""What is said beside numbers: how few images they rest on, what the network gets, and what may be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured import DOWN, UP, measured, shifted

from pipeline.report import build_report
from pipeline.report.comparison import Estimate, compare
from pipeline.report.contents import contents
from pipeline.report.findings import cautions, few, shortfalls
from pipeline.report.provenance import network_input, network_warnings
from pipeline.report.render import html, markdown
from pipeline.run.reader import open_run
from ssig.registry import METRICS


def edited(fake: Any, change: Callable[[dict[str, Any]], object]) -> None:
    for path in (fake.path / "config").iterdir():
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))


def texts(run: Path) -> tuple[str, str, dict[str, Any]]:
    """The page, the Markdown and the model of `report.json`."""
    build_report(str(run))
    folder = run / "report"
    (model,) = json.loads((folder / "report.json").read_text())["models"]
    return (folder / "index.html").read_text(), (folder / "report.md").read_text().replace("\\", ""), model


def test_the_caution_is_of_each_number_and_not_of_the_run() -> None:
    values = shifted([0.0, 1.0], columns=2, images=2000)
    values[6:, :, 1] = np.nan
    found = measured(values, (UP, DOWN), ("ssig", "ig"))
    (text,) = cautions(found.columns, compare(found).means)
    assert text == "N = 6 for lower: fewer than 10 images, so no verdict is given."


@pytest.mark.parametrize(
    ("images", "words", "mark"),
    [
        (9, "no verdict", "too few"),
        (99, "too few images for conclusions", "few"),
        (999, "fewer than the 1,000", ""),
        (1000, "", ""),
    ],
)
def test_few_images_are_said_to_be_few(images: int, words: str, mark: str) -> None:
    means = {"ssig": {"higher": Estimate(0.5, 0.4, 0.6, images)}}
    said = cautions([UP], means)
    assert (words in said[0]) if words else said == []
    assert few(images) == mark


def test_columns_with_as_many_images_are_named_together() -> None:
    one, other = Estimate(0.5, 0.4, 0.6, 24), Estimate(0.5, 0.4, 0.6, 20)
    alike = {"ssig": {"higher": one, "lower": one}}
    assert cautions([UP, DOWN], alike)[0].startswith("N = 24 for every metric: too few images for")
    unlike = {"ssig": {"higher": one, "lower": one}, "ig": {"higher": one, "lower": other}}
    assert cautions([UP, DOWN], unlike)[0].startswith("N = 20 for lower; N = 24 for higher: too few")


def test_skewed_columns_state_the_coverage_that_was_reached() -> None:
    skewed, plain = Estimate(0.5, 0.4, 0.6, 24, coverage=0.88), Estimate(0.5, 0.4, 0.6, 24)
    text = shortfalls(
        [UP, DOWN], {"ssig": {"higher": plain, "lower": skewed}, "ig": {"higher": plain, "lower": plain}}
    )
    assert "88\N{NO-BREAK SPACE}% for lower." in text
    assert "for higher" not in text
    assert shortfalls([UP], {"ssig": {"higher": plain}}) == ""


def test_lognormal_numbers_of_few_images_are_skewed_columns() -> None:
    generator = np.random.default_rng(4)
    values = np.stack([generator.lognormal(sigma=1.5, size=(20, 2)), generator.normal(size=(20, 2))], axis=2)
    means = compare(measured(values, (UP, DOWN), ("a", "b"))).means["a"]
    assert means["higher"].coverage is not None
    assert 0.6 < means["higher"].coverage < 0.93
    assert means["lower"].coverage is None


def test_each_number_stands_beside_its_images(fake_run: Any) -> None:
    page, prose, model = texts(fake_run.path)
    assert "N 22 (few)" in page
    assert "N 20 (few)" in page
    assert "N 20 (few)" in prose
    assert model["cautions"] == [
        "N = 20 for ROC AUC; N = 22 for Insertion AUC, Deletion AUC, Insertion − deletion gap, Completeness residual "
        "and Pointing game: too few images for conclusions (at least 100 recommended)."
    ]


def test_the_verdicts_stand_beside_their_correction(fake_run: Any) -> None:
    page, prose, model = texts(fake_run.path)
    for text in (page, prose):
        assert "corrected for 5 metrics (Holm)" in text
        assert "corrected for 5 comparisons (Holm)" in text
    leads = {lead["column"]["name"]: lead for lead in model["leads"]}
    assert leads["insertion"]["leader"] == "ig/50"
    assert leads["roc_auc"]["leader"] is None
    assert (
        leads["roc_auc"]["reason"] == "ig/50 does not beat ssig" or "ssig does not beat" in leads["roc_auc"]["reason"]
    )
    assert "No method leads on ROC AUC (N = 20) and Pointing game (N = 22)." in model["summary"]
    difference = model["differences"]["ig/50"]["insertion"]
    assert difference["verdict"] == "better"
    assert difference["p"] < 0.001
    # Only one method has a residual, so that nothing is compared.
    assert "completeness" not in leads
    families = {one["family"]: one for one in model["groupings"]}
    assert families["localization"]["count"] == 20


def test_what_methods_are_not_ranked_by_is_said(fake_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(METRICS["insertion"], incomparable={"insertion": "each method has a scale of its own"})
    monkeypatch.setitem(METRICS._entries, "insertion", spec)
    page, prose, model = texts(fake_run.path)
    for text in (page, prose):
        assert "Methods are not ranked by Insertion AUC: each method has a scale of its own." in text
    assert "insertion" not in {lead["column"]["name"] for lead in model["leads"]}
    assert model["differences"]["ig/50"]["insertion"]["verdict"] == ""


def test_the_first_screen_says_what_the_network_gets(fake_run: Any) -> None:
    geometry = {"resize": [20, 20], "crop": [16, 16], "interpolation": "bicubic", "antialias": True, "mode": "center"}
    described = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "geometry": geometry}
    edited(fake_run, lambda config: config["model"].update(described, warnings=["outputs are <= 0"]))
    page, prose, model = texts(fake_run.path)
    expected = (
        "16 × 16 pixels, cut from the centre of images resized to cover 20 × 20 (bicubic); normalised with mean "
        "[0.5, 0.5, 0.5] and standard deviation [0.25, 0.25, 0.25], of pixels in [0, 1]."
    )
    assert model["network_input"] == expected
    head = page[: page.index("</header>")]
    assert f"Input of the network: {expected}" in head
    assert "outputs are &lt;= 0" in head
    assert expected in prose.replace("\\", "")
    assert model["alerts"] == ["outputs are <= 0"]


@pytest.mark.parametrize(
    "model", [{}, {"geometry": "square", "mean": 0.5}, {"geometry": {"resize": 3}, "warnings": 1}]
)
def test_a_network_of_which_little_is_recorded_is_described_as_far_as_it_is(model: dict[str, Any]) -> None:
    assert "not recorded" in network_input({"model": model})
    assert network_warnings({"model": model}) == []


def test_accuracy_near_chance_is_on_the_first_screen(fake_run: Any) -> None:
    # Every class of 2, so that 73 % of 22 images is not surely above one half.
    edited(fake_run, lambda config: config["model"].update(classes=2))
    page, prose, model = texts(fake_run.path)
    words = "labels and network classes may not match"
    assert words in page[: page.index("</header>")]
    assert words in prose[: prose.index("## Coverage")]
    assert "not known to be better than chance (50 %)" in model["alerts"][0]
    edited(fake_run, lambda config: config["model"].update(classes=1000))
    assert texts(fake_run.path)[2]["alerts"] == []


def test_what_the_table_of_effort_can_show_is_said(finished_run: Any) -> None:
    run = open_run(finished_run.path)
    report = contents(run)
    for text in (html(run, report), markdown(report)):
        assert "cannot much exceed 1.25" in text

"""What the project's first page says of the study, on made-up data whose truth is known."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from study_files import core, sanity, whole_study

from jobs.study import first_page
from jobs.study.answers import in_short
from jobs.study.data import GAP, Study
from jobs.study.page import answers_of
from ssig.errors import UsageError


def test_the_first_page_has_no_verdict_without_its_numbers(tmp_path: Path) -> None:
    """Losses come first, and what is not measured is left out."""
    whole_study(tmp_path)
    study = Study(tmp_path)
    found = answers_of(study)
    points = first_page.findings(study, found)
    assert points[0].startswith("*Wins.* In the mean the best variant is ahead of every rival that was measured by ")
    assert "by insertion minus deletion on 4 of 4 networks (`ssig-signed`)" in points[0]  # nothing is lost
    assert (
        "`ssig-signed` has the most sure wins, summed over networks: over 2 of 2 rivals on each network." in points[0]
    )
    assert not any("nan" in point or "Not measured" in point for point in points)
    section = first_page.section(study, found)
    assert section.count("](docs/study/index.md#") == len(in_short(found)) == 9  # each question leads to its answer
    assert all(f" | {each.short} |" in section for each in in_short(found))
    lost = [replace(row, estimate=-row.estimate) if row.measure == GAP else row for row in found["leads"]]
    first = first_page.findings(study, {**found, "leads": lost})[0]
    assert first.startswith(
        "*Losses.* By insertion minus deletion the best variant is behind a rival on 4 of 4 networks ("
    )
    assert "surely on 4." in first


def test_what_no_test_tells_apart_is_said_so(tmp_path: Path) -> None:
    """Nine images are too few for a verdict, and the sentences stay whole."""
    core(tmp_path, "mobilenetv2", dict.fromkeys(("ssig", "ssig-signed", "ig", "random"), 0.3), 9)
    sanity(tmp_path, "mobilenetv2", dict.fromkeys(("ssig", "ssig-signed", "ig"), 0.3), 9)
    study = Study(tmp_path)
    section = first_page.section(study, answers_of(study))
    assert " No variant is surely ahead of every rival, by any metric." in section
    assert (
        "is 0.500 under `ssig` and 0.500 under `ssig-signed`.\n" in section  # no verdict
    )
    assert "Maps of two seeds" not in section  # not measured
    assert "all 0 comparisons" in section


def test_the_number_of_images_is_that_of_the_variants(tmp_path: Path) -> None:
    """A rival of fewer images takes none away."""
    core(tmp_path, "mobilenetv2", {"ssig": 0.3, "ig": 0.2, "random": 0.0}, 60)
    core(tmp_path, "mobilenetv2", {"spi": 0.6}, 20, "core-second-000")
    core(tmp_path, "vit-tiny", {"ssig": 0.3, "ig": 0.2, "random": 0.0}, 30)
    study = Study(tmp_path)
    section = first_page.section(study, answers_of(study))
    assert "on the first 60 of 500 ILSVRC2012 validation images (30 on ViT-Tiny), beside 1 to 2 rivals." in section


def test_a_loss_is_of_the_networks_that_have_the_metric(tmp_path: Path) -> None:
    skill = dict.fromkeys(("ssig", "ig", "random"), 0.3)
    for network in ("mobilenetv2", "vit-tiny"):
        core(tmp_path, network, skill, 60)
    sanity(tmp_path, "vit-tiny", {"ssig": 0.3, "ig": 0.3}, 40)
    study = Study(tmp_path)
    found = answers_of(study)
    lost = [row for row in found["leads"] if row.measure.column == "mprt"]
    assert len(lost) == 1
    forced = [replace(row, estimate=replace(row.estimate, mean=-0.1), p=0.001) for row in lost]
    rows = [row for row in found["leads"] if row not in lost] + forced
    assert (
        "It is surely behind a rival by MPRT on 1 of 1 (`ig`)."
        in first_page.findings(study, {**found, "leads": rows})[0]
    )


def test_only_a_page_with_marks_is_changed(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"a\n{first_page.BEGIN}\nold\n{first_page.END}\nb\n")
    first_page.update(page, "new")
    assert page.read_text() == f"a\n{first_page.BEGIN}\n\nnew\n\n{first_page.END}\nb\n"
    page.write_text("a page")
    with pytest.raises(UsageError, match="a page with the lines"):
        first_page.update(page, "new")
    assert page.read_text() == "a page"

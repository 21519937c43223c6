"""The whole report of a run: what it says, in which order, and that it stands alone."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.report import build_report, report_is_current
from pipeline.report.statistics import intervals
from pipeline.run.reader import open_run
from ssig.errors import UsageError

MODEL = "small & quick"
VOID = {"meta", "br", "wbr", "link", "img"}


class Page(HTMLParser):
    """The page's text, its tags and attributes, and whether its tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.links, self.open, self.headings = "", [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag in ("h2", "h3"):
            self.headings.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data
        if {"h2", "h3"} & set(self.open):
            self.headings[-1] += data


def reported(fake_run) -> tuple[Page, dict, Path]:
    """The report that is there."""
    folder = fake_run.path / "report"
    return Page((folder / "index.html").read_text()), json.loads((folder / "report.json").read_text()), folder


def built(fake_run) -> tuple[Page, dict, Path]:
    """The report, made now."""
    assert Path(build_report(str(fake_run.path))) == fake_run.path / "report" / "index.html"
    return reported(fake_run)


def table(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "tables" / name).read_text())))


def test_the_page_stands_alone(finished_run):
    page, _, _ = reported(finished_run)
    assert page.open == []
    assert page.tags.count("script") == 1
    assert all(link.startswith(("data:image/webp;base64,", "#")) for link in page.links)
    assert len([link for link in page.links if link.startswith("data:")]) == 12


def test_the_page_fetches_nothing(finished_run):
    text = (finished_run.path / "report" / "index.html").read_text()
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    # Names of vocabularies in the figures' metadata, which nothing opens.
    assert all(re.match(r"http://(www\.w3\.org|purl\.org|creativecommons\.org)/", address) for address in addresses)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_the_findings_come_first_and_provenance_last(finished_run):
    page = reported(finished_run)[0]
    order = [
        "What this run shows",
        "Ranks",
        "Methods compared",
        "Paired difference to ssig",
        "Insertion and deletion curves",
        "Gallery",
        "Sampling error, completeness and cost",
        "By class",
        "Model quality",
        "Images kept and excluded",
        "Coverage",
        "Provenance",
        "To repeat this run",
        "Metrics",
    ]
    assert [title for title in page.headings if title in order] == order
    assert "too few images for conclusions" in page.text


def test_names_from_the_data_are_text(finished_run):
    page, _, folder = reported(finished_run)
    assert "<i>not</i> an image" in page.text
    assert "i" not in page.tags
    assert "ig/50" in page.text
    markdown = (folder / "report.md").read_text()
    assert "<i>" not in markdown
    assert "cut \\| header" in markdown


def test_json_holds_the_numbers(finished_run):
    _, report, _ = reported(finished_run)
    (model,) = report["models"]
    values = finished_run.values["ssig"]["insertion"]
    expected = intervals(values.astype("float32")[:, None])
    estimate = model["means"]["ssig"]["insertion"]
    assert estimate["mean"] == pytest.approx(expected.mean[0], abs=1e-6)
    assert (estimate["low"], estimate["high"]) == pytest.approx((expected.low[0], expected.high[0]), abs=1e-6)
    assert estimate["count"] == 22
    assert model["reference"] == "ssig"
    assert {lead["column"]["name"]: lead["leader"] for lead in model["leads"]}["insertion"] == "ig/50"
    assert report["complete"] is False
    assert [row["statuses"]["ok"] for row in report["coverage"]] == [22, 22]


def test_accuracy_is_over_the_labelled_images_that_were_attributed(finished_run):
    _, report, _ = reported(finished_run)
    accuracy = report["models"][0]["quality"]["accuracy"]
    # Every fourth image of a shard of twelve is predicted wrongly; the two failures are right by that rule.
    assert accuracy["count"] == 22
    assert accuracy["mean"] == pytest.approx((24 - 6 - 2) / 22)


def test_tables_agree_with_the_json(finished_run):
    _, report, folder = reported(finished_run)
    (model,) = report["models"]
    for row in table(folder, "metrics.csv"):
        estimate = model["means"][row["method"]][row["column"]]
        assert int(row["n"]) == estimate["count"]
        assert (float(row["mean"]) if row["mean"] else None) == estimate["mean"]
    assert {row["reference"] for row in table(folder, "differences.csv")} == {"ssig"}
    assert len(table(folder, "failed_samples.csv")) == 4
    assert [row["reason"] for row in table(folder, "quarantine.csv")] == ["cut | header"]
    coverage = table(folder, "coverage.csv")
    assert all(
        int(row["expected"]) == sum(int(row[name]) for name in ("ok", "undecodable", "no_label", "not_done"))
        for row in coverage
    )
    assert len(table(folder, "curves.csv")) == 4 * 29
    for name in ("exclusions.csv", "effort.csv"):
        assert table(folder, name)


def test_the_job_file_repeats_the_options(finished_run):
    _, report, _ = reported(finished_run)
    (text,) = report["models"][0]["provenance"]["jobs"]
    job = yaml.safe_load(text)
    assert [method["label"] for method in job["methods"]] == ["ssig", "ig/50"]
    assert job["methods"][0]["samples"] == 32
    assert job["seed"] == 7
    assert job["unit_size"] == 8
    assert [Path(shard).name for shard in job["dataset"]["shards"]] == ["shard-0.tar", "shard-1.tar"]
    assert job["model"]["label"] == MODEL
    assert {metric["name"] for metric in job["metrics"]} >= {"insertion", "roc_auc"}


def test_provenance_names_the_controls_that_are_not_there(finished_run):
    text = reported(finished_run)[0].text
    for name in ("random map", "Sobel edges", "centred Gaussian", "plain gradient"):
        assert name in text


def test_a_report_is_current_until_a_commit_changes(fake_run):
    run = str(fake_run.path)
    assert not report_is_current(open_run(run))
    build_report(run)
    assert report_is_current(open_run(run))
    next((fake_run.path / "commits").rglob("000000-*.json")).unlink()
    assert not report_is_current(open_run(run))
    build_report(run)
    assert report_is_current(open_run(run))
    (fake_run.path / "report" / "report.json").write_text("{")
    assert not report_is_current(open_run(run))


def test_the_same_run_gives_the_same_bytes(finished_run):
    first = {path: path.read_bytes() for path in sorted(reported(finished_run)[2].rglob("*.*"))}
    again = {path: path.read_bytes() for path in sorted(built(finished_run)[2].rglob("*.*"))}
    assert first == again


def test_a_run_without_commits_says_that_nothing_is_done(fake_run):
    for path in list((fake_run.path / "commits").rglob("*.json")):
        path.unlink()
    page, report, _ = built(fake_run)
    assert [row["not_done"] for row in report["coverage"]] == [24, 24]
    assert "nothing to compare" in page.text
    assert report["models"][0]["gallery"] is None


def test_one_method_alone_is_reported_without_differences(fake_run):
    for path in (fake_run.path / "config").iterdir():
        if json.loads(path.read_text())["method_label"] != "ssig":
            path.unlink()
    page, report, _ = built(fake_run)
    assert "Paired difference to" not in page.text
    assert report["models"][0]["differences"] == {}


def test_a_run_without_metrics_is_coverage_and_maps(fake_run):
    for path in (fake_run.path / "config").iterdir():
        path.write_text(json.dumps({**json.loads(path.read_text()), "metrics": {}}))
    for path in (fake_run.path / "commits").rglob("*.json"):
        commit = json.loads(path.read_text())
        commit["files"] = {name: file for name, file in commit["files"].items() if name.startswith("attributions/")}
        path.write_text(json.dumps(commit))
    page, report, _ = built(fake_run)
    assert "No metric has a number." in page.text
    assert [row["statuses"]["ok"] for row in report["coverage"]] == [22, 22]
    assert report["models"][0]["quality"]["accuracy"]["count"] == 22


def test_models_are_reported_one_after_the_other(fake_run):
    for path in list((fake_run.path / "config").iterdir()):
        config = {**json.loads(path.read_text()), "model_label": "second"}
        path.with_name(f"second-{path.name}").write_text(json.dumps(config))
    (folder,) = (fake_run.path / "commits").iterdir()
    shutil.copytree(folder, folder.with_name("model=second"))
    page, report, _ = built(fake_run)
    assert [model["model"] for model in report["models"]] == ["second", MODEL]
    assert [row["model"] for row in report["coverage"]] == ["second", "second", MODEL, MODEL]
    assert report["models"][0]["means"] == report["models"][1]["means"]
    assert f"{MODEL}: Gallery" in page.headings


def test_rows_that_the_manifest_does_not_expect_stop_the_report(fake_run):
    name = fake_run.path / "manifest.parquet"
    manifest = pq.read_table(name)
    pq.write_table(manifest.slice(0, 16), name)
    with pytest.raises(UsageError, match="audit"):
        build_report(str(fake_run.path))


def test_a_path_without_a_run_is_a_usage_error(tmp_path, fake_run):
    with pytest.raises(UsageError, match="run"):
        build_report(str(tmp_path / "nothing"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="not a run of ssig"):
        build_report(str(other))
    shutil.rmtree(Path(fake_run.path) / "config")
    with pytest.raises(UsageError, match="configured"):
        build_report(str(fake_run.path))

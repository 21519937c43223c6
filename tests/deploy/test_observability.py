"""The dashboard and the alert rules name the metrics that there are, and each of these is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.driver.telemetry import exported_names

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "observability"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
VARIABLES = [variable["query"] for variable in DASHBOARD["templating"]["list"]]


def named(texts: list[str]) -> set[str]:
    """The metrics of ssig that queries name."""
    return {name for text in texts for name in re.findall(r"\bray_ssig_\w+", text)}


def test_every_metric_that_is_named_exists_and_every_one_is_shown() -> None:
    exported = set(exported_names())
    assert named([rule["expr"] for rule in RULES]) <= exported
    assert named(VARIABLES) <= exported
    assert named(QUERIES) == exported


def test_queries_use_the_tags_that_there_are() -> None:
    names = exported_names()
    for query in (*QUERIES, *(rule["expr"] for rule in RULES)):
        tags = {"run"}.union(*(names[name].tags for name in named([query])))
        by = {tag.strip() for tags_of in re.findall(r"by \(([^)]*)\)", query) for tag in tags_of.split(",")}
        matched = {tag for braces in re.findall(r"\{([^}]*)\}", query) for tag in re.findall(r"(\w+)\s*[=!]", braces)}
        assert by | matched <= tags, query
        assert query.count("(") == query.count(")")


def test_alerts_say_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert {"summary", "description"} <= set(rule["annotations"])
        assert rule["labels"]["severity"] in ("page", "warn")


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24

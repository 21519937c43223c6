"""Values of job files and of the command line: YAML 1.2's core schema, texts as typed, no key twice."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from jobs.commands.choices import assignment, choice, scalar
from jobs.commands.upload import job_for_cluster
from pipeline.job.configuration import TEXTS, load_job
from pipeline.storage.yaml12 import YAMLError, dump, load
from ssig.errors import UsageError

CORE = [
    ("010", 10), ("08", 8), ("0100", 100), ("-07", -7), ("+12", 12), ("0o10", 8), ("0x1F", 31),
    ("1e-3", 1e-3), ("1e5", 1e5), (".5", 0.5), ("1.", 1.0), ("-1.5E+3", -1500.0), (".inf", math.inf),
    ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
    *[(text, text) for text in ("on", "off", "yes", "No", "y", "1:30", "1_000", "0b11", "2026-01-31", "1_0.5", "=",
                                "2026-01-31T10:00:00Z", "190:20:30", "0o9", "nan", "inf", "None")],
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), CORE)
def test_plain_values_are_those_of_the_core_schema(text: str, value: object) -> None:
    for found in (load(text), load(f"[{text}]")[0] if text else None, load(f"key: {text}")["key"]):
        assert found == value
        assert type(found) is type(value)


def test_quoted_values_are_text_and_nan_is_a_number() -> None:
    assert load("['010', \"on\", '1e3', 'null']") == ["010", "on", "1e3", "null"]
    assert math.isnan(load(".nan"))


def test_anchors_and_merge_keys_work_and_what_they_bring_is_no_second_key() -> None:
    text = "base: &base {samples: 8, rule: left}\nother: {<<: *base, rule: right}\nlist: [*base, *base]"
    found = load(text)
    assert found["other"] == {"samples": 8, "rule": "right"}
    assert found["list"] == [{"samples": 8, "rule": "left"}] * 2


@pytest.mark.parametrize(
    ("text", "line", "first"),
    [
        ("seed: 1\nunit_size: 2\nseed: 3", 3, 1),
        ("model:\n  name: a\n  weights: b\n  'name': c", 4, 2),
        ("methods:\n- {name: ig, steps: 4,\n   steps: 5}", 3, 2),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  <<: *x", 4, 3),
        ("{1: a,\n 01: b}", 2, 1),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(text: str, line: int, first: int) -> None:
    with pytest.raises(YAMLError, match=f"given twice, first in line {first} .*\n.*line {line},"):
        load(text)


@pytest.mark.parametrize(
    "text", ["!!timestamp 2026-01-31", "!!python/name:os.system", "!!set {a, b}", "!!int x", "!!map [3]", "!!map x"]
)
def test_tags_make_nothing_but_plain_values(text: str) -> None:
    with pytest.raises(YAMLError):
        load(text)


def test_an_integer_that_python_cannot_hold_is_no_accident() -> None:
    with pytest.raises(YAMLError):
        load("9" * 10_000)


@pytest.mark.parametrize("value", [text for text, _ in CORE] + ["<<", 1e-5, 1e20, 10, True, None, math.inf, -0.5])
def test_what_is_written_is_read_back(value: object) -> None:
    assert load(dump({"key": [value]})) == {"key": [value]}


@pytest.mark.parametrize(
    "text", ["010", "08", "on", "null", "1:30", "1_000", "true", "2026-01-31", "a, b", "[x", "#1"]
)
def test_a_label_of_the_command_line_is_the_text_as_typed(text: str) -> None:
    assert choice("--method", f"ig:steps=4,label={text}") == {"name": "ig", "steps": 4, "label": text}
    assert choice("--method", f"ig:label={text},steps=4") == {"name": "ig", "steps": 4, "label": text}
    assert assignment(f"model.label={text}") == ("model.label", text)


def test_quotes_of_a_label_are_no_part_of_it() -> None:
    assert choice("--method", "ig:label='010'")["label"] == "010"


def test_numbers_of_the_command_line_are_decimal() -> None:
    assert choice("--method", "ig:steps=0100") == {"name": "ig", "steps": 100}
    assert choice("--metric", "insertion:steps=08")["steps"] == 8
    assert assignment("seed=010") == ("seed", 10)
    assert (scalar("--target", "010"), scalar("--target", "08")) == (10, 8)


@pytest.mark.parametrize("slip", ["ig:steps=", "ig:steps=1,steps=2", "ig:name=gradient", "ig:x,steps=1", "ig:steps"])
def test_slips_of_a_choice_are_refused(slip: str) -> None:
    with pytest.raises(UsageError, match="option=value"):
        choice("--method", slip)


JOB = """\
dataset: {shards: a.tar}
model: {name: "timm:resnet18", target: 010}
methods:
- {name: ig, steps: 0100, label: 100 steps}
- {name: ssig, label: null}
output: {path: run}
seed: 010
"""


def test_a_job_file_is_read_by_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    job = load_job(path)
    assert (job.model.target, job.seed) == (10, 10)
    assert [method.title for method in job.methods] == ["100 steps", "ssig"]
    assert job.methods[0].options == {"steps": 100}


def test_labels_of_a_job_file_are_text_as_typed() -> None:
    text = "[{label: 010}, {label: 1:30}, {label: on}, {label: 2026-01-31}, {label: 'x'}, {label: null}, {label: }]"
    found = [one["label"] for one in load(text, TEXTS)]
    assert found == ["010", "1:30", "on", "2026-01-31", "x", None, None]


def test_a_job_that_is_sent_to_a_cluster_says_the_same(tmp_path: Path) -> None:
    path, sent = tmp_path / "job.yaml", tmp_path / "sent.yaml"
    path.write_text(JOB)
    sent.write_text(job_for_cluster(path, str(tmp_path)))
    assert load_job(sent) == load_job(path)


def test_a_job_file_with_a_key_twice_is_wrong_use(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB + "seed: 2\n")
    with pytest.raises(UsageError, match=r"'seed' is given twice, first in line 7 and again .*line 8"):
        load_job(path)

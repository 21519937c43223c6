"""JSON that any strict parser reads, written in one way."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import pytest

from pipeline.driver.resources import Shape
from pipeline.driver.scaling import most_actors
from pipeline.run.canonical import canonical
from pipeline.run.log import RunLog
from pipeline.storage import open_storage
from pipeline.storage.jsontext import as_read, to_json

ROOT = Path(__file__).resolve().parents[3]


def strict(text: str) -> object:
    """What a parser reads that knows no more than the standard."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_has_no_word_for_are_null(value: float) -> None:
    nested = {"a": value, "b": [value, (value, 1.5)], "c": {"d": value}, "e": "Infinity"}
    expected = {"a": None, "b": [None, [None, 1.5]], "c": {"d": None}, "e": "Infinity"}
    for text in (
        to_json(nested),
        to_json(nested, indent=1),
        to_json(nested, compact=True),
        canonical(nested).decode(),
    ):
        assert strict(text) == expected
    assert as_read(nested) == expected


def test_equal_values_have_one_compact_text() -> None:
    assert (
        to_json({"b": 1, "a": "ä"}, compact=True)
        == to_json({"a": "ä", "b": 1}, compact=True)
        == '{"a":"\\u00e4","b":1}'
    )
    assert to_json({"a": "ä"}, readable=True) == '{"a": "ä"}'


def test_every_line_of_a_log_is_json(tmp_path: Path) -> None:
    log = RunLog(open_storage(tmp_path), "a1")
    log.write("started", actors=math.inf, nested={"rate": math.nan}, path=tmp_path)
    log.close()
    (line,) = (tmp_path / "logs" / "a1.jsonl").read_text().splitlines()
    record = strict(line)
    assert isinstance(record, dict)
    assert (record["actors"], record["nested"], record["path"]) == (None, {"rate": None}, str(tmp_path))


def test_as_many_actors_as_there_is_room_for_are_told_in_a_word() -> None:
    assert most_actors(Shape(num_gpus=0, num_cpus=1, least=1, most=math.inf)) == "auto"
    assert most_actors(Shape(num_gpus=0, num_cpus=1, least=1, most=3)) == 3


def test_nothing_else_writes_json() -> None:
    found = []
    for folder in ("ssig", "pipeline", "jobs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                if is_call and ast.unparse(node.func) in ("json.dump", "json.dumps"):  # type: ignore[attr-defined]
                    found.append(path.relative_to(ROOT).as_posix())
    # The check of a GPU runs where the pipeline is not installed.
    assert found == ["pipeline/storage/jsontext.py", "jobs/bench/gpu/session.py"]

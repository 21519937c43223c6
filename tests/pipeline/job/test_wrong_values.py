"""Every field of a job refuses wrong values of each kind in words of our own, with the nearest name of a wrong one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.job.configuration import EvaluationJob, Job, load_evaluation, load_job
from ssig.errors import UsageError

GOOD: dict[str, Any] = {"dataset.shards": ["a.tar"], "output.path": "run"}
WRONG: list[Any] = [
    *(None, True, False, -1, 0, 2**64, 10**400, 1.5, -0.5, float("nan"), float("inf"), b"\xff", object()),
    *("", "x", "nonsense", [], [1], [None], [[]], ["x"], ["", ""], [1, 2], [0, 0, 0], [0.1, "x", 3], {}, {"x": 1}),
    *({3: 4}, {"name": 3}, {"size": "x"}, {"size": [1]}, {"crop": "x"}, [{"name": 3}], [{"options": 3, "name": "ig"}]),
]


def leaked_phrases() -> re.Pattern[str]:
    """Every message of pydantic up to its first blank, as one pattern, and other words that only it uses."""
    errors = sys.modules["pydantic_core._pydantic_core"].list_all_errors()  # brought by pydantic
    openings = {re.split(r"[{'\",;(]", kind["message_template_python"])[0].strip() for kind in errors}
    openings |= {" ".join(opening.split()[:2]) for opening in openings}
    phrases = {opening for opening in openings if len(opening.split()) > 1}
    return re.compile("|".join(map(re.escape, {*phrases, "should be", "should have", "after validation", "pydantic"})))


LEAKED = leaked_phrases()


def fields(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Dotted names of all fields of a model, nested ones too."""
    for name, field in model.model_fields.items():
        yield above + name
        inner = field.annotation
        for kind in (inner, *getattr(inner, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from fields(kind, f"{above}{name}.")


def test_the_pattern_finds_what_pydantic_says() -> None:
    for text in ("Input should be a valid integer", "Field required", "List should have at least 1 item after"):
        assert LEAKED.search(text)


def refusals(make: Callable[[Any], object]) -> list[UsageError]:
    """The errors of `make` for each of the wrong values, of those that it refuses."""
    found = []
    for value in WRONG:
        try:
            make(value)
        except UsageError as error:
            found.append(error)
    return found


@pytest.mark.parametrize("field", list(fields(Job)))
def test_no_wrong_value_of_a_job_gets_words_of_pydantic(field: str) -> None:
    errors = refusals(lambda value: load_job(None, {**GOOD, field: value}))
    assert errors
    for error in errors:
        assert not LEAKED.search(str(error)), str(error)
        assert "\n" not in str(error)
        assert error.field.startswith(field.partition(".")[0].removesuffix("s")), str(error)


@pytest.mark.parametrize("field", [name for name in fields(EvaluationJob) if not name.startswith("actors.")])
def test_no_wrong_value_of_an_evaluation_gets_words_of_pydantic(field: str) -> None:
    for error in refusals(lambda value: load_evaluation({"metrics": ["gini"], field: value})):
        assert not LEAKED.search(str(error)), str(error)


@pytest.mark.parametrize("name", ["name", "label", "options"])
@pytest.mark.parametrize("kind", ["methods", "metrics"])
def test_no_wrong_choice_gets_words_of_pydantic(kind: str, name: str) -> None:
    good = "ig" if kind == "methods" else "gini"
    errors = refusals(lambda value: load_job(None, {**GOOD, kind: [{"name": good, name: value}]}))
    assert errors
    for error in errors:
        assert not LEAKED.search(str(error)), str(error)


@pytest.mark.parametrize("field", list(fields(Job)))
def test_a_slip_in_the_name_of_a_field_gets_the_name(field: str) -> None:
    *parents, name = field.split(".")
    slip = name[:-1] + "x" if len(name) > 3 else name + "x"
    with pytest.raises(UsageError) as caught:
        load_job(None, {**GOOD, ".".join([*parents, slip]): 1})
    assert caught.value.field == ".".join([*parents, slip])
    assert caught.value.nearest == name
    assert f"did you mean {name}?" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.precision": "fp61"}, "model.precision: found 'fp61'; did you mean fp16? allowed: one of fp32, tf32"),
        ({"seed": -1}, "seed: found -1; allowed: a whole number from 0 to 2^63 - 1"),
        ({"model.mean": [0.5, 0.5]}, "model.mean: found [0.5, 0.5]; allowed: a list of 3 numbers or null"),
        (
            {"methods": ["sigg"]},
            "method: found 'sigg'; did you mean ssig? allowed: the names that `ssig methods`",
        ),
        (
            {"unit_size": 0, "seed": -1},
            "unit_size: found 0; allowed: a whole number from 1 to 4096 or auto (also wrong: ",
        ),
    ],
)
def test_messages_in_full(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_job(None, {**GOOD, **change})
    assert str(caught.value).startswith(message)


def test_what_is_missing_is_named_to_the_field_that_must_be_given() -> None:
    with pytest.raises(UsageError, match=r"^dataset\.shards is missing; needed: a list of texts, not empty"):
        load_job(None, {"output.path": "run"})

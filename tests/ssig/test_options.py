"""Options refuse what they do not know, and say what they allow."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pytest

from ssig.errors import UsageError
from ssig.options import as_dict, build, describe, option, quiet


@dataclass(frozen=True)
class Example:
    steps: int = option(4, "how many", at_least=1)
    width: float = option(0.5, "how wide", above=0, at_most=2)
    rule: str | None = option(None, "which", choices=("a", "b"))
    baseline: str | tuple[float, ...] = option("mean", "from where", choices=("mean",))


def test_defaults_and_given_values() -> None:
    assert build(Example, {}, where="x") == Example()
    built = build(Example, {"steps": 7, "width": 1, "baseline": [0, 0.5]}, where="x")
    assert built == Example(steps=7, width=1.0, baseline=(0.0, 0.5))
    assert as_dict(built) == {"steps": 7, "width": 1.0, "rule": None, "baseline": [0.0, 0.5]}


@dataclass(frozen=True)
class Later(Example):
    over: str = quiet(option("none", "what came later"))
    over_samples: int = quiet(option(25, "how many of it"))


def test_records_are_as_before_a_quiet_option_until_one_is_used() -> None:
    assert as_dict(Later(steps=7)) == as_dict(Example(steps=7))
    assert as_dict(Later(over="noise")) == {**as_dict(Example()), "over": "noise", "over_samples": 25}
    assert build(Later, as_dict(Later(over_samples=3)), where="x") == Later(over_samples=3)


@pytest.mark.parametrize(
    ("given", "field", "allowed"),
    [
        ({"stepz": 1}, "x.stepz", "steps"),
        ({"steps": 0}, "x.steps", "at least 1"),
        ({"steps": 1.5}, "x.steps", "a whole number"),
        ({"steps": True}, "x.steps", "a whole number"),
        ({"steps": "4"}, "x.steps", "a whole number"),
        ({"width": 0}, "x.width", "above 0"),
        ({"width": 3}, "x.width", "at most 2"),
        ({"width": float("nan")}, "x.width", "a number"),
        ({"rule": "c"}, "x.rule", "one of a, b"),
        ({"baseline": "grey"}, "x.baseline", "mean"),
        ({"baseline": []}, "x.baseline", "a list of numbers"),
    ],
)
def test_errors_name_the_field_and_what_is_allowed(given: dict[str, object], field: str, allowed: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(Example, given, where="x")
    assert caught.value.field == field
    assert allowed in caught.value.allowed
    assert field in str(caught.value)


def test_an_unknown_option_gets_its_owner_and_the_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        build(Example, {"stepz": 3}, where="methods.example")
    start = "methods.example.stepz: example has no option 'stepz' (value: 3); did you mean steps? allowed: one of "
    assert str(caught.value).startswith(start)


def test_errors_survive_a_process_border() -> None:
    error = UsageError("a.b", 3, ["x", "y"])
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.field == "a.b"


def test_options_are_documented() -> None:
    described = {doc.name: doc for doc in describe(Example)}
    assert described["steps"].allowed == "a whole number, at least 1"
    assert described["rule"].type == "str or null"
    assert described["width"].default == 0.5

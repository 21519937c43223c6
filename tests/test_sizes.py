"""The product's files, functions and signatures stay small enough to read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ssig", "pipeline", "jobs")
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 7

# FILE, or FILE:FUNCTION; a class's functions are CLASS.FUNCTION.
EXCEPTED = {
    # public signatures
    "ssig/api/attribution.py:attribute",
    "ssig/api/measuring.py:measure",
    "ssig/extend/__init__.py:metric",
    "ssig/models/model.py:Model.__init__",
    # mirrors of a foreign signature, or of the dataclass that they fill
    "ssig/captum.py:SuppressionIG.attribute",
    "ssig/captum.py:IntegratedGradients.attribute",
    "ssig/engine/layers.py:_OpenAttention._attend",
    "ssig/engine/layers.py:_OpenAttention._attend_with_heads",
    "ssig/metrics/localization/objects.py:add_object_metric",
    # options of a command
    "jobs/commands/attribute.py:attribute",
    "jobs/commands/attribute.py:evaluate",
    "jobs/commands/plan.py:plan",
    "jobs/commands/submitting.py:submit",
    "jobs/bench/app.py:engine",
    "jobs/bench/app.py:adaptive",
    "jobs/bench/app.py:scale",
    "jobs/bench/engine.py:measure",
    "jobs/commands/pack.py:pack",
    "jobs/commands/paper.py:paper",
}


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The functions of a module or class, with those inside them, by name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
            yield from functions(child, f"{prefix}{child.name}.")
        else:
            yield from functions(child, prefix)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many a caller names: neither `self` nor `cls`, and of `*args` and `**options` none."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def too_large(name: str, source: str) -> dict[str, str]:
    """What of a file is over a limit: its name, and by how much."""
    lines = source.count("\n")
    found = {name: f"{lines} lines"} if lines > FILE_LINES else {}
    for function, node in functions(ast.parse(source)):
        length, count = (node.end_lineno or 0) - node.lineno + 1, parameters(node)
        if length > FUNCTION_LINES:
            found[f"{name}:{function}"] = f"{length} lines"
        if count > PARAMETERS:
            found[f"{name}:{function}"] = f"{count} parameters"
    return found


def over_the_limits(root: Path) -> dict[str, str]:
    """What of the product is over a limit."""
    found: dict[str, str] = {}
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        found |= too_large(path.relative_to(root).as_posix(), path.read_text())
    return found


def test_the_product_keeps_the_limits() -> None:
    assert {name: size for name, size in over_the_limits(ROOT).items() if name not in EXCEPTED} == {}


def test_no_exception_is_left_that_nothing_needs() -> None:
    assert EXCEPTED - set(over_the_limits(ROOT)) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = 1\n" * 401, {"a.py": "401 lines"}),
        ("x = 1\n" * 400, {}),
        ("def f():\n" + "    x = 1\n" * 60, {"a.py:f": "61 lines"}),
        ("def f():\n" + "    x = 1\n" * 59, {}),
        ("def f(a, b, c, d, e, f, g, *, h): pass\n", {"a.py:f": "8 parameters"}),
        ("class A:\n    def f(self, a, b, c, d, e, f, /, g, *rest, **options): pass\n", {}),
        ("class A:\n    def f(self, a, b, c, d, e, f, g, h): pass\n", {"a.py:A.f": "8 parameters"}),
        ("def f():\n    def g(a, b, c, d, e, f, g, h): pass\n", {"a.py:f.g": "8 parameters"}),
    ],
)
def test_what_is_planted_is_found(source: str, found: dict[str, str]) -> None:
    assert too_large("a.py", source) == found

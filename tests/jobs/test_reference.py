"""The generated pages of docs/ are those of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from jobs.reference.cost import IMAGES, JOBS, METHODS, METRICS, PRICE, RATE, device_hours, evaluations
from jobs.reference.environment import VARIABLES
from jobs.reference.markdown import plain, table
from jobs.reference.pages import FOLDER, PAGES
from pipeline.storage.object_client import STORAGE_PREFIX
from ssig.registry.catalogue import METHOD, METRIC, options_of, records

ROOT = Path(__file__).resolve().parents[2]
# Variables that ssig sets or hides, and a user does not: read by torch and by Ray.
NOT_FOR_USERS = {"RAY_API_SERVER_ADDRESS", "SSIG_JOB_TEXT"}
VARIABLE = re.compile(r"(?:SSIG|RAY|AWS|GOOGLE|XDG|LD|MALLOC|TMPDIR)(?:_[A-Z0-9_]+)?")


@pytest.mark.parametrize("name", PAGES)
def test_a_committed_page_is_the_one_that_the_code_makes(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "type `make format`"


def test_nothing_else_lies_among_the_generated_pages() -> None:
    pages = [name for name in PAGES if name.startswith("reference/")]
    assert sorted(f"reference/{path.name}" for path in (FOLDER / "reference").iterdir()) == sorted(pages)


def test_the_page_of_clusters_has_the_same_costs() -> None:
    rows = [
        line.strip("| ").split(" | ")
        for line in PAGES["reference/cost.md"]().splitlines()
        if line.startswith("| maps")
    ]
    shown = [
        line.strip("| ").split(" | ") for line in (FOLDER / "cluster.md").read_text().splitlines() if "maps of" in line
    ]
    assert shown == [[row[0], row[4], *row[6:]] for row in rows]
    hours = device_hours(*(IMAGES * count for count in evaluations(METHODS, METRICS)), RATE)
    assert f"the last job costs about {hours * PRICE:.0f}." in (FOLDER / "cluster.md").read_text()


@pytest.mark.parametrize(("kind", "name"), [(METHOD, "reference/methods.md"), (METRIC, "reference/metrics.md")])
def test_every_entry_has_a_section_with_all_of_its_options(kind: str, name: str) -> None:
    page = (FOLDER / name).read_text(encoding="utf-8")
    shared, *sections = page.split("\n## `")
    entries = {section.partition("`")[0]: section for section in sections}
    assert list(entries) == list(records(kind))
    for entry, record in records(kind).items():
        text = f"{entries[entry]}{shared}"
        assert [option.name for option in options_of(record) if f"| `{option.name}` |" not in text] == []
        assert [preset for preset in record["presets"] if f"`preset={preset}`" not in text] == []


def strings(root: Path) -> set[str]:
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for folder in ("ssig", "pipeline", "jobs")
        for path in (root / folder).rglob("*.py")
    ]
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_variable_that_the_code_names_is_listed() -> None:
    listed = {name for group in VARIABLES.values() for each in group for name in each.name.split(", ")}
    families = tuple(name.removesuffix("…") for name in listed if name.endswith("…"))
    named = {text for text in strings(ROOT) if VARIABLE.fullmatch(text)}
    unlisted = named - listed - NOT_FOR_USERS - {STORAGE_PREFIX}
    assert [name for name in sorted(unlisted) if not name.startswith(families)] == []


def test_what_would_be_markup_is_text() -> None:
    assert plain("E_m[|x|] * <b> `a_b|c`") == r"E\_m\[\|x\|\] \* &lt;b> `a_b|c`"
    assert table(("a",), [("x\ny",)]) == "| a |\n| --- |\n| x y |"


def test_hours_follow_from_evaluations_and_the_stated_rate() -> None:
    assert device_hours(gradients=7_200_000, forwards=0, rate=1_000) == pytest.approx(2)
    assert device_hours(gradients=0, forwards=10_800_000, rate=1_000) == pytest.approx(1)
    assert evaluations(("gradient",), ()) == (1, 0)
    one, two = evaluations(("ssig",), ("insertion",)), evaluations(("ssig", "ig"), ("insertion",))
    assert two == (2 * one[0], 2 * one[1])
    assert one[1] > 0


def test_a_job_with_more_work_takes_longer() -> None:
    hours = [device_hours(*evaluations(methods, metrics), rate=1) for _, methods, metrics in JOBS]
    assert hours[0] < hours[1] < hours[3]
    assert hours[0] < hours[2] < hours[3]

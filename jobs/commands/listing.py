"""The listings of methods and metrics: for the terminal, as JSON, and as the Markdown tables of the README.

`python -m jobs.commands.listing README.md` writes the tables into the file, between comments that name them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ssig
from jobs.commands.printing import print_entries, print_json, print_table, text
from ssig.errors import UsageError
from ssig.options import describe
from ssig.registry import MethodSpec, MetricSpec


@dataclass(frozen=True)
class Listing:
    """A registry to be listed.

    Attributes:
        kind: method or metric.
        specs: its entries.
        facts: what is told of each.
        columns: those of the facts that a table shows, the sentence that says what the entry is first.
    """

    kind: str
    specs: Callable[[], Sequence[Any]]
    facts: Callable[[Any], Mapping[str, object]]
    columns: tuple[str, ...]


def of_method(spec: MethodSpec) -> dict[str, object]:
    options = spec.parse({})
    return {
        "equation": spec.equation,
        "gradients": spec.evaluations(options),
        "complete": "yes" if spec.complete else "no",
        "paper": spec.paper,
        "references": spec.references(options),
    }


def of_metric(spec: MetricSpec) -> dict[str, object]:
    return {
        "definition": spec.definition,
        "family": spec.family,
        "better": next(iter(spec.columns.values())),
        "range": spec.range,
        "forwards": spec.forwards(spec.parse({})),
        "explanations": spec.explanations(spec.parse({})),
        "reference": spec.reference,
        "columns": {**spec.columns, **spec.dataset_columns},
        "needs": sorted(spec.needs),
    }


METHODS = Listing("method", ssig.list_methods, of_method, ("equation", "gradients", "complete", "paper"))
METRICS = Listing(
    "metric",
    ssig.list_metrics,
    of_metric,
    ("definition", "family", "better", "range", "forwards", "explanations", "reference"),
)


def show(listing: Listing, name: str | None, as_json: bool, markdown: bool) -> int:
    """Prints a listing, or one entry of it with its options.

    Raises:
        UsageError: there is no entry of that name.
    """
    specs = listing.specs()
    if name is not None:
        known = [spec.name for spec in specs]
        if name not in known:
            raise UsageError(listing.kind, name, known)
        specs = [specs[known.index(name)]]
    if as_json:
        return print_json([_record(listing, spec) for spec in specs])
    if markdown:
        print(table(listing))
    elif name is None:
        print_entries(_entry(listing, spec) for spec in specs)
    else:
        _print_whole(listing, specs[0])
    return 0


def table(listing: Listing) -> str:
    """The listing as a Markdown table."""
    head = (listing.kind, *listing.columns)
    lines = [head, ["---"] * len(head)]
    lines += [(f"`{name}`", *(cell.replace("|", "\\|") for cell in cells)) for name, *cells in _rows(listing)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rewritten(page: str) -> str:
    """A page whose tables between `<!-- methods -->`, `<!-- metrics -->` or `<!-- columns TABLE -->` and the next
    `<!-- end -->` are new."""
    for listing in (METHODS, METRICS):
        fence = re.compile(rf"(<!-- {listing.kind}s -->\n).*?(<!-- end -->)", re.DOTALL)
        body = table(listing)
        page = fence.sub(lambda found, body=body: f"{found[1]}{body}\n{found[2]}", page)  # type: ignore[misc]
    return re.sub(
        r"(<!-- columns (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{_columns(found[2])}\n{found[3]}",
        page,
        flags=re.DOTALL,
    )


def _columns(name: str) -> str:
    """The columns of a run's table of that name as a Markdown table; of metrics, those that all of them have."""
    from pipeline.run.schema import attributions_schema, descriptions, metrics_schema
    from pipeline.shards.manifest_table import MANIFEST

    maps = attributions_schema((3, 224, 224), "float16", channels=True)
    schema = {"manifest": MANIFEST, "attributions": maps, "metrics": metrics_schema([])}[name]
    told = descriptions(schema)
    lines = [f"| {name} | type | holds |", "| --- | --- | --- |"]
    for field in schema:
        kind = str(field.type).removeprefix("extension<arrow.").split("[")[0].split("<struct")[0]
        text_of = told[field.name].replace("|", "\\|")
        lines.append(f"| `{field.name}` | {kind} | {text_of} |")
    return "\n".join(lines)


def _rows(listing: Listing) -> list[list[str]]:
    facts = [(spec.name, listing.facts(spec)) for spec in listing.specs()]
    return [[name, *(text(known[column]) for column in listing.columns)] for name, known in facts]


def _entry(listing: Listing, spec: Any) -> tuple[str, str, dict[str, object]]:
    known = listing.facts(spec)
    sentence, *others = listing.columns
    return spec.name, text(known[sentence]), {column: known[column] for column in others}


def _record(listing: Listing, spec: Any) -> dict[str, object]:
    return {
        "name": spec.name,
        **listing.facts(spec),
        "options": [asdict(doc) for doc in describe(spec.options)],
        "presets": {title: dict(values) for title, values in spec.presets.items()},
    }


def _print_whole(listing: Listing, spec: Any) -> None:
    told = {key: text(value) for key, value in listing.facts(spec).items()}
    print(spec.name, *(f"  {key}: {value}" for key, value in told.items() if value), sep="\n")
    docs = describe(spec.options)
    if docs:
        print_table(("option", "default", "allowed", ""), [(d.name, text(d.default), d.allowed, d.doc) for d in docs])
    for title, values in spec.presets.items():
        print(f"preset {title}: {text(values)}")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        Path(argument).write_text(rewritten(Path(argument).read_text(encoding="utf-8")), encoding="utf-8")

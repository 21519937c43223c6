"""The listings of methods and metrics: for the terminal, as JSON, and as the Markdown tables of the README.

`python -m jobs.commands.listing README.md` writes the tables into the file, between comments that name them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.commands.printing import print_entries, print_json, print_table, text
from ssig.errors import unknown_entry
from ssig.registry.catalogue import METHOD, METRIC, Plugin, Record, imported, options_of, plugins, records
from ssig.registry.sources import FILE, Kind

# Keys of a record that are not facts.
_NO_FACTS = ("name", "options", "presets", "control")


@dataclass(frozen=True)
class Listing:
    """What a listing shows.

    Attributes:
        kind: method or metric.
        columns: the facts that a table shows. The first is the sentence that says what the entry is.
    """

    kind: Kind
    columns: tuple[str, ...]


METHODS = Listing(METHOD, ("equation", "gradients", "complete", "paper"))
METRICS = Listing(METRIC, ("definition", "family", "better", "range", "forwards", "explanations", "reference"))


def show(listing: Listing, name: str | None, as_json: bool, markdown: bool) -> int:
    """Prints a listing, or one entry of it with its options.

    Plug-ins of other packages are listed by name. They are imported only to show one of them.

    Raises:
        UsageError: there is no entry of that name.
    """
    listed_plugins = plugins(listing.kind)
    if name is not None:
        record = _record(listing.kind, name, listed_plugins)
        chosen, listed_plugins = [record], []
    else:
        chosen = list(records(listing.kind).values())
    if as_json:
        return print_json([*chosen, *(_plugin_record(plugin) for plugin in listed_plugins if plugin.problem is None)])
    if markdown:
        print(table(listing, chosen))
    elif name is not None:
        _print_whole(chosen[0])
    else:
        print_entries(_entry(listing, record) for record in chosen)
        for plugin in listed_plugins:
            print(_line(listing.kind, plugin))
    return 0


def _record(kind: Kind, name: str, listed_plugins: Iterable[Plugin]) -> Record:
    records_by_name = records(kind)
    if name in records_by_name:
        return records_by_name[name]
    if FILE.fullmatch(name):
        return imported(kind, name)
    plugin_names = [plugin.name for plugin in listed_plugins]
    if name not in plugin_names:
        raise unknown_entry(kind, name, [*records_by_name, *plugin_names])
    return imported(kind, name)


def _line(kind: Kind, plugin: Plugin) -> str:
    origin = f"{plugin.package} {plugin.version}".rstrip()
    if plugin.problem is not None:
        return f"{plugin.name} (from {origin}) cannot be used: {plugin.problem}".lstrip()
    return f"{plugin.name} (from {origin}): `ssig {kind}s {plugin.name}` shows its options"


def _plugin_record(plugin: Plugin) -> dict[str, object]:
    return {"name": plugin.name, "package": plugin.package, "version": plugin.version, "options": [], "presets": {}}


def table(listing: Listing, chosen: Iterable[Record] | None = None) -> str:
    """Records as a Markdown table; by default all of ssig's own."""
    head = (listing.kind, *listing.columns)
    lines: list[tuple[str, ...]] = [head, ("---",) * len(head)]
    for record in records(listing.kind).values() if chosen is None else chosen:
        cells = (text(record[column]).replace("|", "\\|") for column in listing.columns)
        lines.append((f"`{record['name']}`", *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rewritten(page: str) -> str:
    """The page with new tables between `<!-- methods -->`, `<!-- metrics -->` or `<!-- columns TABLE -->` and the
    next `<!-- end -->`."""
    for listing in (METHODS, METRICS):
        fence = re.compile(rf"(<!-- {listing.kind}s -->\n).*?(<!-- end -->)", re.DOTALL)
        body = table(listing)
        page = fence.sub(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", page)  # type: ignore[misc]
    return re.sub(
        r"(<!-- columns (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{_columns(match[2])}\n{match[3]}",
        page,
        flags=re.DOTALL,
    )


def _columns(name: str) -> str:
    """A Markdown table of the columns of a run's table; for metrics, only the columns that all metrics share."""
    from pipeline.run.schema import attributions_schema, descriptions, metrics_schema
    from pipeline.shards.manifest_table import MANIFEST

    maps = attributions_schema((3, 224, 224), "float16", channels=True)
    schema = {"manifest": MANIFEST, "attributions": maps, "metrics": metrics_schema([])}[name]
    texts = descriptions(schema)
    lines = [f"| {name} | type | holds |", "| --- | --- | --- |"]
    for field in schema:
        kind = str(field.type).removeprefix("extension<arrow.").split("[")[0].split("<struct")[0]
        text_of = texts[field.name].replace("|", "\\|")
        lines.append(f"| `{field.name}` | {kind} | {text_of} |")
    return "\n".join(lines)


def _entry(listing: Listing, record: Record) -> tuple[str, str, Mapping[str, object]]:
    sentence, *further_columns = listing.columns
    return record["name"], text(record[sentence]), {column: record[column] for column in further_columns}


def _print_whole(record: Record) -> None:
    facts = {key: text(value) for key, value in record.items() if key not in _NO_FACTS}
    print(record["name"], *(f"  {key}: {value}" for key, value in facts.items() if value), sep="\n")
    docs = options_of(record)
    if docs:
        print_table(("option", "default", "allowed", ""), [(d.name, text(d.default), d.allowed, d.doc) for d in docs])
    presets: Mapping[str, Any] = record["presets"]
    for title, values in presets.items():
        print(f"preset {title}: {text(values)}")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        Path(argument).write_text(rewritten(Path(argument).read_text(encoding="utf-8")), encoding="utf-8")

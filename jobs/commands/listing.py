"""The listings of methods and metrics: for the terminal, as JSON, and as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.commands.printing import print_entries, print_json, print_table, text
from ssig.errors import unknown_entry
from ssig.registry.catalogue import METHOD, METRIC, Plugin, Record, imported, options_of, plugins, records
from ssig.registry.sources import CAPTUM, FILE, Kind

# Keys of a record that are not facts.
_NO_FACTS = ("name", "options", "presets", "attention", "control")


@dataclass(frozen=True)
class Listing:
    """What a listing shows.

    Attributes:
        kind: method or metric.
        columns: the facts that a table shows. The first is the sentence that says what the entry is.
    """

    kind: Kind
    columns: tuple[str, ...]


METHODS = Listing(METHOD, ("equation", "gradients", "forwards", "complete", "paper"))
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
    if FILE.fullmatch(name) or (kind == METHOD and CAPTUM.fullmatch(name)):
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


def table(listing: Listing, chosen: Iterable[Record]) -> str:
    """Records as a Markdown table."""
    head = (listing.kind, *listing.columns)
    lines: list[tuple[str, ...]] = [head, ("---",) * len(head)]
    for record in chosen:
        cells = (text(record[column]).replace("|", "\\|") for column in listing.columns)
        lines.append((f"`{record['name']}`", *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _entry(listing: Listing, record: Record) -> tuple[str, str, Mapping[str, object]]:
    sentence, *further_columns = listing.columns
    return record["name"], text(record[sentence]), {column: record[column] for column in further_columns}


def _print_whole(record: Record) -> None:
    facts = {key: text(value) for key, value in record.items() if key not in _NO_FACTS}
    facts |= {key: "known after a run" for key in ("gradients", "forwards") if record.get(key, 0) is None}
    print(record["name"], *(f"  {key}: {value}" for key, value in facts.items() if value), sep="\n")
    docs = options_of(record)
    if docs:
        print_table(("option", "default", "allowed", ""), [(d.name, text(d.default), d.allowed, d.doc) for d in docs])
    presets: Mapping[str, Any] = record["presets"]
    for title, values in presets.items():
        print(f"preset {title}: {text(values)}")

"""Facts about methods and metrics without importing them, since importing torch takes seconds.

`catalogue.json` holds a record of each; ``python -m jobs.commands.catalogue`` writes it from the registries. For
entries of other installed packages (`plugins`), only name and package are known before they are imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ssig.errors import UsageError, one_line, unknown_entry
from ssig.options import OptionDoc, checked, describe
from ssig.registry import METHODS, METRICS, MethodSpec, MetricSpec, Registry, preset_values, sources
from ssig.registry.sources import CAPTUM, Kind

PATH = Path(__file__).with_name("catalogue.json")
METHOD: Kind = "method"
METRIC: Kind = "metric"
REGISTRIES: dict[Kind, Registry[Any]] = {METHOD: METHODS, METRIC: METRICS}
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Plugin:
    """A method, metric or network of another installed package, as listed in the package's metadata.

    Attributes:
        name: its name in commands and jobs; empty if the metadata cannot be read.
        package: the distribution that provides it.
        version: of the distribution.
        problem: why it cannot be used; None if no problem is known.
    """

    name: str
    package: str
    version: str
    problem: str | None = None


def records(kind: Kind) -> dict[str, Record]:
    """Name -> record of every method (kind `METHOD`) or metric (`METRIC`) of ssig, in the order of the listings."""
    return {record["name"]: record for record in _stored()[kind + "s"]}


@cache
def _stored() -> dict[str, list[Record]]:
    content: dict[str, list[Record]] = json.loads(PATH.read_text(encoding="utf-8"))
    return content


def options_of(record: Record) -> list[OptionDoc]:
    """The documented options of a record."""
    return [OptionDoc(**{**option, "choices": tuple(option["choices"])}) for option in record["options"]]


def check(kind: Kind, name: str, arguments: Mapping[str, Any]) -> None:
    """Refuses an unknown name, an unknown option and a wrong value of an option; imports no method.

    `MethodSpec.parse` and `MetricSpec.parse` check rules between options, and entries of other packages.

    Raises:
        UsageError: with the nearest known name.
    """
    records_by_name = records(kind)
    if name in records_by_name:
        where, record = f"{kind}s.{name}", records_by_name[name]
        checked(options_of(record), preset_values(record["presets"], arguments, where), where=where)
    elif kind == METHOD and CAPTUM.fullmatch(name):
        sources.plugin(kind, name)
    elif not REGISTRIES[kind].is_loaded(name):
        plugin_names = [plugin.name for plugin in plugins(kind)]
        if name not in plugin_names:
            raise unknown_entry(kind, name, [*records_by_name, *plugin_names])


def plugins(kind: Kind) -> list[Plugin]:
    """Entries of other installed packages: entry points ``ssig.methods``, ``ssig.metrics`` or ``ssig.models``.

    Only the metadata of the packages is read. Entries that cannot be read, or that have the name of an entry of ssig,
    are listed with their `Plugin.problem`.

    Args:
        kind: `METHOD`, `METRIC` or ``model``.
    """
    ssig_names = records(kind) if kind in REGISTRIES else {}
    unreadable: list[tuple[metadata.Distribution, Exception]] = []
    entries = [
        Plugin(source.name, source.distribution, source.version) for source in sources.plugins(kind, unreadable)
    ]
    for package, error in unreadable:
        if f"ssig.{kind}s" in _metadata_text(package):
            path = str(getattr(package, "_path", "a package"))
            entries.append(Plugin("", path, "", f"unreadable metadata ({error})"))
    return [
        replace(plugin, problem=f"ssig has a {kind} of this name") if plugin.name in ssig_names else plugin
        for plugin in sorted(entries, key=lambda plugin: (plugin.name, plugin.package))
    ]


def _metadata_text(package: metadata.Distribution) -> str:
    try:
        return package.read_text("entry_points.txt") or ""
    except Exception:
        return ""


def method_record(spec: MethodSpec) -> dict[str, Any]:
    """The catalogue's record of a method; costs are those of the default options."""
    options = spec.parse({})
    cost = spec.cost(options)
    return {
        "name": spec.name,
        "equation": spec.equation,
        "gradients": cost.gradients,
        "forwards": cost.forwards,
        "complete": "yes" if spec.complete else "no",
        "paper": spec.paper,
        "references": spec.references(options),
        "attention": spec.attention,
        "control": spec.control,
        **_common(spec),
    }


def metric_record(spec: MetricSpec) -> dict[str, Any]:
    """The catalogue's record of a metric; costs are those of the default options."""
    options = spec.parse({})
    return {
        "name": spec.name,
        "definition": spec.definition,
        "family": spec.family,
        "better": next(iter(spec.columns.values())),
        "range": spec.range,
        "forwards": spec.forwards(options),
        "explanations": spec.explanations(options),
        "reference": spec.reference,
        "columns": {**spec.columns, **spec.dataset_columns},
        "needs": sorted(spec.needs),
        **_common(spec),
    }


def _common(spec: MethodSpec | MetricSpec) -> dict[str, Any]:
    return {
        "options": [asdict(doc) for doc in describe(spec.options)],
        "presets": {title: dict(values) for title, values in spec.presets.items()},
    }


def imported(kind: Kind, name: str) -> dict[str, Any]:
    """Imports an entry from outside ssig, and returns its record: a plug-in, or ``./FILE.py:NAME``.

    Raises:
        UsageError: there is no such entry, or it cannot be imported.
    """
    plugins_by_name = {plugin.name: plugin for plugin in plugins(kind)}
    try:
        return method_record(METHODS.find(name)) if kind == METHOD else metric_record(METRICS.find(name))
    except UsageError:  # already names the package and the problem
        raise
    except Exception as error:  # foreign code may raise anything
        if name not in plugins_by_name:
            raise
        plugin = plugins_by_name[name]
        problem = f"importing it from {plugin.package} {plugin.version} failed: {one_line(error)}"
        raise UsageError(kind, name, f"a {kind} that can be imported; {problem}") from error


def current() -> dict[str, list[Record]]:
    """The catalogue from the registries; imports every method and metric."""
    return {
        "methods": [method_record(spec) for spec in METHODS],
        "metrics": [metric_record(spec) for spec in METRICS],
    }

"""What can be told of methods and metrics without importing them: importing torch takes seconds.

`catalogue.json` holds a record of each; ``python -m jobs.commands.catalogue`` writes it from the registries. Entries
that other installed packages bring (`plugins`) are known by name and package until they are asked for.
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
from ssig.registry.sources import Kind

PATH = Path(__file__).with_name("catalogue.json")
METHOD: Kind = "method"
METRIC: Kind = "metric"
REGISTRIES: dict[Kind, Registry[Any]] = {METHOD: METHODS, METRIC: METRICS}
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Plugin:
    """A method, metric or network of another installed package, known from the package's metadata alone.

    Attributes:
        name: what it is asked for by; empty where the metadata cannot be read.
        package: the distribution that brings it.
        version: of the distribution.
        problem: why it cannot be used; None if nothing is known against it.
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


def check(kind: Kind, name: str, given: Mapping[str, Any]) -> None:
    """Refuses an unknown name, an unknown option and a value that its option does not allow; imports no method.

    Rules between options are checked by `MethodSpec.parse` and `MetricSpec.parse`, as is what other packages bring.

    Raises:
        UsageError: with the nearest known name.
    """
    known = records(kind)
    if name in known:
        where, record = f"{kind}s.{name}", known[name]
        checked(options_of(record), preset_values(record["presets"], given, where), where=where)
    elif not REGISTRIES[kind].is_loaded(name):
        brought = [plugin.name for plugin in plugins(kind)]
        if name not in brought:
            raise unknown_entry(kind, name, [*known, *brought])


def plugins(kind: Kind) -> list[Plugin]:
    """What other installed packages bring by the entry points ``ssig.methods``, ``ssig.metrics`` or ``ssig.models``.

    Only the metadata of the packages is read. What cannot be read, or has a name that ssig has, is given with its
    `Plugin.problem`.

    Args:
        kind: `METHOD`, `METRIC` or ``model``.
    """
    own = records(kind) if kind in REGISTRIES else {}
    unreadable: list[tuple[metadata.Distribution, Exception]] = []
    brought = [
        Plugin(source.name, source.distribution, source.version) for source in sources.plugins(kind, unreadable)
    ]
    for package, error in unreadable:
        if f"ssig.{kind}s" in _metadata_text(package):
            path = str(getattr(package, "_path", "a package"))
            brought.append(Plugin("", path, "", f"unreadable metadata ({error})"))
    return [
        replace(plugin, problem=f"ssig has a {kind} of this name") if plugin.name in own else plugin
        for plugin in sorted(brought, key=lambda plugin: (plugin.name, plugin.package))
    ]


def _metadata_text(package: metadata.Distribution) -> str:
    try:
        return package.read_text("entry_points.txt") or ""
    except Exception:
        return ""


def method_record(spec: MethodSpec) -> dict[str, Any]:
    """What the catalogue holds of a method; costs are those of the default options."""
    options = spec.parse({})
    return {
        "name": spec.name,
        "equation": spec.equation,
        "gradients": None if spec.counted else spec.evaluations(options),
        "complete": "yes" if spec.complete else "no",
        "paper": spec.paper,
        "references": spec.references(options),
        "control": spec.control,
        **_common(spec),
    }


def metric_record(spec: MetricSpec) -> dict[str, Any]:
    """What the catalogue holds of a metric; costs are those of the default options."""
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
    """The record of an entry that is no part of ssig, which is imported for it: a plug-in, or ``./FILE.py:NAME``.

    Raises:
        UsageError: there is none of this name, or it cannot be imported.
    """
    brought = {plugin.name: plugin for plugin in plugins(kind)}
    try:
        return method_record(METHODS.find(name)) if kind == METHOD else metric_record(METRICS.find(name))
    except UsageError:  # says already whose it is and what is wrong
        raise
    except Exception as error:  # code of others may raise anything
        if name not in brought:
            raise
        plugin = brought[name]
        whose = f"{plugin.package} {plugin.version}, which brings it, cannot be used: {one_line(error)}"
        raise UsageError(kind, name, f"a {kind} that can be imported; {whose}") from error


def current() -> dict[str, list[Record]]:
    """The catalogue as the registries are now; imports every method and metric."""
    return {
        "methods": [method_record(spec) for spec in METHODS],
        "metrics": [metric_record(spec) for spec in METRICS],
    }

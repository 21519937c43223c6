"""Methods and metrics as a job names them: ``NAME`` or ``./FILE.py:NAME``, with options; and what is recorded of them.

A name is one of ssig's own or of an installed plug-in. A file is read and run when a job that names it is loaded; the
rules of `pipeline.run.trust` are checked before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.run.described import described
from ssig.errors import UsageError
from ssig.options import as_dict
from ssig.registry import METHODS, METRICS, FileSource, MethodSpec, MetricSpec
from ssig.registry.catalogue import METHOD, METRIC, check
from ssig.registry.sources import FILE


class Frozen(BaseModel):
    """A part of a job: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(Frozen):
    """A method or a metric with its options.

    Attributes:
        name: as it is registered.
        file: the Python file that it is in; None for ssig's own and those of installed plug-ins.
    """

    name: str
    file: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def text(self) -> str:
        """The name as it is given on the command line."""
        return self.name if self.file is None else f"{self.file}:{self.name}"


class MethodChoice(Choice):
    """A method with its options, under a label of its own."""

    label: str | None = Field(None, min_length=1)

    @property
    def title(self) -> str:
        return self.label or self.name

    @property
    def spec(self) -> MethodSpec:
        return METHODS[self.name] if _is_registered(self, METHODS.source(self.name)) else METHODS.find(self.text)

    def parsed(self) -> Any:
        return self.spec.parse(self.options)


class MetricChoice(Choice):
    """A metric with its options."""

    @property
    def spec(self) -> MetricSpec:
        return METRICS[self.name] if _is_registered(self, METRICS.source(self.name)) else METRICS.find(self.text)

    def parsed(self) -> Any:
        return self.spec.parse(self.options)


def _is_registered(choice: Choice, source: object) -> bool:
    """Whether the registry has the entry of a file already: a file is read once for a job, even if it changes."""
    return choice.file is not None and isinstance(source, FileSource) and source.path == choice.file


def named(value: Any) -> Any:
    """What a job gives for a method or metric as a mapping: the name without its file, options under `options`."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        return value
    if "options" not in value:
        name_and_label = {key: value[key] for key in ("name", "label") if key in value}
        value = {**name_and_label, "options": {key: value[key] for key in value if key not in ("name", "label")}}
    parts = FILE.fullmatch(value["name"]) if isinstance(value.get("name"), str) else None
    return value if parts is None else {**value, "name": parts["name"], "file": parts["path"]}


def chosen(values: Mapping[str, Any], field: str) -> list[Any]:
    """The mappings in a list of methods or metrics of a job; files that are named alone become mappings, in place."""
    entries = values.get(field)
    if not isinstance(entries, list):
        return []
    entries[:] = [{"name": entry} if isinstance(entry, str) and FILE.fullmatch(entry) else entry for entry in entries]
    return [entry for entry in entries if isinstance(entry, dict)]


def check_names(methods: Sequence[MethodChoice], metrics: Sequence[MetricChoice]) -> None:
    """Checks names and options as far as that is possible without importing any method or metric.

    Raises:
        UsageError: an unknown name or option, with the nearest known one.
    """
    for kind, choices in ((METHOD, methods), (METRIC, metrics)):
        for choice in choices:
            if choice.file is None:
                check(kind, choice.name, choice.options)


def find_methods(choices: Sequence[MethodChoice]) -> None:
    """Finds methods by their names and files, and checks their options.

    Raises:
        UsageError: an unknown method or option, code that cannot be run, or one name from two files.
    """
    _refuse_double_names("methods", choices)
    for choice in choices:
        METHODS.find(choice.text).parse(choice.options)


def find_metrics(choices: Sequence[MetricChoice]) -> None:
    """Finds metrics by their names and files, and checks their options.

    Raises:
        UsageError: an unknown metric or option, code that cannot be run, one metric twice, or a column twice.
    """
    names = [choice.name for choice in choices]
    check_names((), choices)
    _refuse_double_names("metrics", choices)
    for choice in choices:
        METRICS.find(choice.text).parse(choice.options)
        if names.count(choice.name) > 1:
            raise UsageError("metrics", choice.name, "each metric once")
    if not any(METRICS.source(name) for name in names):
        return
    from pipeline.run.schema import metrics_schema  # imports Arrow

    columns = metrics_schema([choice.spec for choice in choices]).names
    for choice in choices:
        twice = next((column for column in choice.spec.stored if columns.count(column) > 1), None)
        if twice is not None:
            raise UsageError("metrics", choice.text, f"columns that nothing else has, unlike {twice!r}")


def _refuse_double_names(field: str, choices: Sequence[Choice]) -> None:
    files = {choice.name: choice for choice in choices}
    for choice in choices:
        if choice.file != files[choice.name].file:
            allowed = f"names that differ: {files[choice.name].text} has the same; rename one of the functions"
            raise UsageError(field, choice.text, allowed)


def method_config(choice: MethodChoice) -> dict[str, Any]:
    """What is recorded of a method: name, options with defaults, paper, equation, cost; and the origin, if foreign.

    Also the origins of foreign methods that it runs, so that their versions are a part of the fingerprint.
    """
    spec, options = choice.spec, choice.parsed()
    source, cost = METHODS.source(spec.name), spec.cost(options)
    sources = {base.name: METHODS.source(base.name) for base in spec.bases(options)}
    base_origins = {name: base.origin for name, base in sources.items() if base is not None}
    return {
        "name": spec.name,
        "options": as_dict(options),
        "paper": spec.paper,
        "equation": spec.equation,
        "evaluations": cost.gradients,
        # Named only where there are some, so that the fingerprints of methods without any stay what they were.
        **({} if cost.forwards == 0 or cost.gradients is None else {"forwards": cost.forwards}),
        "complete": spec.complete,
        **({} if source is None else {"origin": source.origin, "control": spec.control}),
        **({"base_origins": base_origins} if base_origins else {}),
    }


def metrics_config(choices: Sequence[MetricChoice]) -> dict[str, dict[str, Any]]:
    """Each metric's options, defaults included."""
    return {choice.name: as_dict(choice.parsed()) for choice in choices}


def descriptions(choices: Sequence[MetricChoice]) -> dict[str, dict[str, Any]]:
    """What is recorded of the metrics that are not ssig's own, so that readers need not run their code."""
    records = {}
    for choice in choices:
        source = METRICS.source(choice.name)
        if source is not None:
            records[choice.name] = described(choice.spec, choice.parsed(), source.origin)
    return records

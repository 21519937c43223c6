"""The entries of the registries, and the registries: name -> method, name -> metric."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ssig.errors import UsageError, unknown_entry
from ssig.options import build
from ssig.registry.sources import CAPTUM, FileSource, Kind, Source, plugin

if TYPE_CHECKING:
    import numpy as np

    from ssig.types import Evaluation, Group, MetricResult, Steps


class Named(Protocol):
    @property
    def name(self) -> str: ...


Entry = TypeVar("Entry", bound=Named)


class Registry(Generic[Entry]):
    """Entries by name: ssig's own, in order of registration, and entries adopted from a source.

    Listings contain only ssig's own. A second entry of one name is refused. Only `find` opens files.

    Args:
        kind: ``method`` or ``metric``.
        home: the package whose import registers ssig's own entries; it is imported at the first access.
        adapter: the module whose `adapted(object, name, shown)` makes an entry from a source's object.
    """

    def __init__(self, kind: Kind, home: str, adapter: str) -> None:
        self._kind, self._home, self._adapter = kind, home, adapter
        self._registered: dict[str, Entry] = {}
        self._adopted: dict[str, tuple[Source, Entry]] = {}

    @property
    def _entries(self) -> dict[str, Entry]:
        import_module(self._home)
        return self._registered

    def add(self, entry: Entry) -> None:
        if entry.name in self._registered:
            raise ValueError(f"{self._kind} {entry.name!r} is registered twice")
        self._registered[entry.name] = entry

    def __getitem__(self, name: str) -> Entry:
        """ssig's own entry of a name, an adopted one, or that of an installed package, which is imported now.

        Raises:
            UsageError: there is no such entry, or it cannot be imported.
        """
        if name in self._entries:
            return self._registered[name]
        if name in self._adopted:
            return self._adopted[name][1]
        source = plugin(self._kind, name)
        if source is None:
            raise unknown_entry(self._kind, name, self.names())
        return self.adopt(source)

    def is_loaded(self, name: str) -> bool:
        """Whether an entry of that name is registered or adopted already; imports nothing."""
        return name in self._registered or name in self._adopted

    def __contains__(self, name: object) -> bool:
        """Whether an entry of that name is ssig's own or adopted; installed packages are not searched."""
        return name in self._entries or name in self._adopted

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def names(self) -> list[str]:
        return list(self._entries)

    def find(self, text: str) -> Entry:
        """The entry that a user names: ``NAME``, ``captum:CLASS``, or ``FILE.py:NAME``, whose file is run now.

        Raises:
            UsageError: there is no such entry, or its code fails.
        """
        file = FileSource.named(self._kind, text)
        if file is not None:
            return self.adopt(file)
        if isinstance(self.source(text), FileSource):  # from a file of an earlier job, not meant by this name
            del self._adopted[text]
        if ":" in text and not CAPTUM.fullmatch(text):
            raise UsageError(self._kind, text, f"NAME, or ./FILE.py:NAME for a {self._kind} in a file")
        return self[text]

    def entry_of(self, entry: object) -> Entry:
        """The entry for an argument: a name as in `find`, an entry, or a plain function.

        Raises:
            UsageError: there is no entry of that name, or the function has another signature.
        """
        if isinstance(entry, str):
            return self.find(entry)
        return self._adapt(entry, "", getattr(entry, "__name__", type(entry).__name__))

    def adopt(self, source: Source) -> Entry:
        """Loads an entry from a source and stores it under the source's name, replacing an earlier one.

        Raises:
            UsageError: ssig has an entry of that name, the code fails, or its object is no entry.
        """
        if source.name in self._entries:
            allowed = f"another name: ssig already has a {self._kind} {source.name!r}"
            raise UsageError(self._kind, source.shown, allowed)
        earlier = self._adopted.get(source.name)
        if earlier is not None and earlier[0] == source:
            return earlier[1]
        entry = self._adapt(source.load(), source.name, source.shown)
        self._adopted[source.name] = source, entry
        return entry

    def source(self, name: str) -> Source | None:
        """The source of an adopted entry; None for ssig's own."""
        return self._adopted[name][0] if name in self._adopted else None

    def sources(self) -> tuple[Source, ...]:
        """The sources of all adopted entries."""
        return tuple(source for source, _ in self._adopted.values())

    def agrees(self, name: str, origin: Mapping[str, str] | None) -> bool:
        """Whether the entry of a name comes from a recorded origin (None: ssig's own); imports no plug-in."""
        if origin is None:
            return name in self._entries
        source = self.source(name) or plugin(self._kind, name)
        return source is not None and source.origin == origin

    def _adapt(self, source_object: object, name: str, shown: str) -> Entry:
        entry: Entry = import_module(self._adapter).adapted(source_object, name, shown)
        return entry


def with_preset(
    options: type[Any], presets: Mapping[str, Mapping[str, Any]], arguments: Mapping[str, Any], where: str
) -> Any:
    """Options from `arguments`, which override the preset that its key ``preset`` names."""
    return build(options, preset_values(presets, arguments, where), where=where)


def preset_values(
    presets: Mapping[str, Mapping[str, Any]], arguments: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """The values in `arguments`, which override those of the preset that its key ``preset`` names."""
    values = dict(arguments)
    preset = values.pop("preset", None)
    if preset is None:
        return values
    if not isinstance(preset, str) or preset not in presets:
        raise UsageError(f"{where}.preset", preset, sorted(presets) or "no presets")
    return {**presets[preset], **values}


@dataclass(frozen=True)
class _Averaged:
    """What a spec says of a method, changed where its options ask for the mean over random inputs.

    Attributes:
        own: of the method itself, called with the same arguments, of which the last are options.
        changed: `(own, *arguments) -> value` for options that ask for it.
    """

    own: Callable[..., Any]
    changed: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        if getattr(arguments[-1], "over", NOT_OVER) == NOT_OVER:
            return self.own(*arguments)
        return self.changed(self.own, *arguments)


def _run_over(own: Callable[..., Steps], group: Group, options: Any) -> Steps:
    from ssig.estimators.over import over  # imported late, because it imports torch

    return over(group, own, options)


def repeated(forwards: int | None, runs: int, *, scored: int = 0) -> int | None:
    """Forward evaluations of several runs of a method; None if those of one are known only after it.

    Args:
        forwards: of one run.
        runs: how many.
        scored: images and baselines that are scored in each run and are not those of the caller.
    """
    return None if forwards is None else runs * (forwards + scored)


NOT_OVER = "none"
# Attribute of a spec -> what it is under options that ask for the mean over random inputs.
_OVER: Mapping[str, Callable[..., Any]] = {
    "run": _run_over,
    "evaluations": lambda own, options: own(options) * options.over_samples,
    "forwards": lambda own, options: repeated(own(options), options.over_samples, scored=1),
    "path": lambda own, options: None,
    "baseline": lambda own, options: options.over == "uniform" or own(options),
}


@dataclass(frozen=True)
class Cost:
    """What a map costs: evaluations of the network for one image; None where they are known only after a run.

    Attributes:
        gradients: evaluations with a gradient.
        forwards: evaluations without one, besides those that score the image and its baselines.
    """

    gradients: int | None
    forwards: int | None


@dataclass(frozen=True, repr=False)
class MethodSpec:
    """A method of the registry.

    Attributes:
        name: registry name; also a part of every image's random key.
        run: `(group, options) -> Steps`, the method's coroutine.
        options: frozen dataclass of `option` fields; has `baseline` and `score` among them.
        paper: where the method was published.
        equation: one line.
        evaluations: gradient evaluations per image under given options.
        forwards: forward evaluations without gradients per image under given options, besides those that score the
            image and its baselines; None where they differ between images and are known only after a run.
        complete: whether the attributions sum to `f(x) - f(x')` in the limit, under the default options.
        baseline: whether the attributions depend on the baseline under given options.
        path: options -> name of the points that it evaluates: methods with equal names evaluate the same points. None
            if it shares none, or if where it takes gradients depends on gradients.
        references: options -> number of images of the data set that it compares with; 0 for none.
        presets: named settings of a reference.
        network: whether it needs the plain network (`Group.network`), beside or instead of requests.
        counted: whether its gradient evaluations are known only after a run; `evaluations` then returns 0, and
            `forwards` says nothing. `cost` takes this into account.
        attention: whether it explains only networks with attention.
        bases: options -> other methods that it runs.
        control: whether it explains nothing and only gives a lower bound for others, such as random numbers.
        revision: counts the changes of its results under unchanged options; part of the fingerprint.
    """

    name: str
    run: Callable[[Group, Any], Steps]
    options: type[Any]
    paper: str
    equation: str
    evaluations: Callable[[Any], int]
    complete: bool
    path: Callable[[Any], Hashable | None] = lambda options: None
    references: Callable[[Any], int] = lambda options: 0
    baseline: Callable[[Any], bool] = lambda options: True
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    forwards: Callable[[Any], int | None] = lambda options: 0
    network: bool = False
    counted: bool = False
    attention: bool = False
    control: bool = False
    revision: int = 0
    bases: Callable[[Any], tuple[MethodSpec, ...]] = lambda options: ()

    def __post_init__(self) -> None:
        """Every method can be averaged over random inputs, at the cost of as many runs (`ssig.estimators.over`)."""
        for name, wrap in _OVER.items():
            own = getattr(self, name)
            if not isinstance(own, _Averaged):
                object.__setattr__(self, name, _Averaged(own, wrap))

    def __repr__(self) -> str:
        return f"<method {self.name}: {self.equation}; {self.paper}>"

    def parse(self, arguments: Mapping[str, Any]) -> Any:
        """Options from plain values, or a `UsageError` that names the field."""
        return with_preset(self.options, self.presets, arguments, f"methods.{self.name}")

    def needs_network(self, options: Any) -> bool:
        """Whether it, or a method that it runs, needs the plain network."""
        return self.network or any(base.network for base in self.bases(options))

    def cost(self, options: Any) -> Cost:
        """What a map costs under given options: with the methods that it runs, and over its random inputs."""
        if self.counted or any(base.counted for base in self.bases(options)):
            return Cost(None, None)
        return Cost(self.evaluations(options), self.forwards(options))


# Families of metrics, in the order of reports.
FAMILIES = ("faithfulness", "information", "localization", "complexity", "robustness", "randomisation", "certainty")


@dataclass(frozen=True, repr=False)
class MetricSpec:
    """A metric of the registry.

    Attributes:
        name: registry name.
        compute: `(evaluation, options) -> MetricResult`, a pure function on a batch.
        options: frozen dataclass of `option` fields.
        columns: scalar column -> better direction, ``higher``, ``lower`` or ``none``; the first is the headline.
        curves: names of the curve columns, each ending in ``_curve``.
        definition, range, reference: one line each.
        forwards: options -> forward evaluations per image and map, without the one on the image itself.
        explanations: options -> number of further explanations per image, each at the method's full cost.
        needs: required inputs, of ``map``, ``values``, ``model``, ``mask``, ``method`` and ``samples``.
        presets: named settings of a reference.
        family: one of `FAMILIES`; reports show a table for each.
        vectors: names of further list columns, each of a fixed length, which are stored but not drawn.
        dataset_columns: number of the whole data set -> better direction.
        dataset: `(columns, options) -> numbers`, all `dataset_columns` from the stored columns of one model and
            method: scalars (N,), curves and vectors (N, n), of the images that have a value. If no image has a list,
            its n is 0, and numbers computed from it are NaN.
        resampled: `(columns, counts, options) -> numbers`, (R,) each: the result of `dataset` if image i is counted
            counts[r, i] times, counts (R, N); None if images cannot be counted repeatedly, or if it takes too long.
        shares: columns that are 0 or 1 for each image, so that their mean is a share of the images.
        incomparable: column -> why methods cannot be ranked by it, although it has a better direction.
        descriptions: column, curve, vector or number of the data set -> one line, if `definition` is not enough.
        revision: counts the changes of its results under unchanged options; part of the fingerprint.
    """

    name: str
    compute: Callable[[Evaluation, Any], MetricResult]
    options: type[Any]
    columns: Mapping[str, str]
    definition: str
    range: str
    reference: str
    forwards: Callable[[Any], int]
    needs: frozenset[str]
    curves: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    family: str = "faithfulness"
    explanations: Callable[[Any], int] = lambda options: 0
    vectors: tuple[str, ...] = ()
    dataset_columns: Mapping[str, str] = field(default_factory=dict)
    dataset: Callable[[Mapping[str, np.ndarray], Any], Mapping[str, float]] | None = None
    resampled: Callable[[Mapping[str, np.ndarray], np.ndarray, Any], Mapping[str, np.ndarray]] | None = None
    shares: frozenset[str] = frozenset()
    incomparable: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0

    def __repr__(self) -> str:
        return f"<metric {self.name}: {self.definition}; {self.reference}>"

    def parse(self, arguments: Mapping[str, Any]) -> Any:
        """Options from plain values, or a `UsageError` that names the field."""
        return with_preset(self.options, self.presets, arguments, f"metrics.{self.name}")

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of all results: columns, curves, vectors and numbers of the data set."""
        return (*self.columns, *self.curves, *self.vectors, *self.dataset_columns)

    def description(self, name: str) -> str:
        """One line about one of `stored`.

        Raises:
            KeyError: there is no description of that name.
        """
        if name in self.descriptions:
            return self.descriptions[name]
        if name == next(iter(self.columns)):
            return self.definition
        signed = re.sub("_abs(_curve)?$", r"\1", name)
        if name not in self.stored or signed == name:
            raise KeyError(name)
        ordered = "value" if "values" in self.needs else "map"
        return f"{self.description(signed)}; in the order of |{ordered}|"


METHODS: Registry[MethodSpec] = Registry("method", "ssig.methods", "ssig.extend.methods")
METRICS: Registry[MetricSpec] = Registry("metric", "ssig.metrics", "ssig.extend.metrics")

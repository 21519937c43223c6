"""The two registries, name -> method and name -> metric; every choice that a user sees comes from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ssig.errors import UsageError, unknown_entry
from ssig.options import build

if TYPE_CHECKING:
    import numpy as np

    from ssig.metrics.evaluation import Evaluation, MetricResult
    from ssig.types import Group, Steps


class Named(Protocol):
    @property
    def name(self) -> str: ...


Entry = TypeVar("Entry", bound=Named)


class Registry(Generic[Entry]):
    """Entries by name, in order of registration; a second entry of one name is refused.

    Args:
        kind: what the entries are, for errors.
        home: the package whose import registers the entries; it is imported when one is first asked for.
    """

    def __init__(self, kind: str, home: str) -> None:
        self._kind, self._home = kind, home
        self._registered: dict[str, Entry] = {}

    @property
    def _entries(self) -> dict[str, Entry]:
        import_module(self._home)
        return self._registered

    def add(self, entry: Entry) -> None:
        if entry.name in self._registered:
            raise ValueError(f"{self._kind} {entry.name!r} is registered twice")
        self._registered[entry.name] = entry

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_entry(self._kind, name, self.names()) from None

    def is_loaded(self, name: str) -> bool:
        """Whether an entry of that name is registered already; imports nothing."""
        return name in self._registered

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def names(self) -> list[str]:
        return list(self._entries)


def with_preset(
    options: type[Any], presets: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], where: str
) -> Any:
    """Options from `given`, on top of the preset that ``preset`` names in it."""
    return build(options, preset_values(presets, given, where), where=where)


def preset_values(presets: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values that are given, on top of those of the preset that ``preset`` names among them."""
    values = dict(given)
    preset = values.pop("preset", None)
    if preset is None:
        return values
    if not isinstance(preset, str) or preset not in presets:
        raise UsageError(f"{where}.preset", preset, sorted(presets) or "no presets")
    return {**presets[preset], **values}


@dataclass(frozen=True)
class MethodSpec:
    """A method of the registry.

    Attributes:
        name: registry name; also a part of every image's random key.
        run: `(group, options) -> Steps`, the method's coroutine.
        options: frozen dataclass of `option` fields; has `baseline` and `score` among them.
        paper: where the method was published.
        equation: one line.
        evaluations: gradient evaluations per image under given options.
        complete: whether the attributions sum to `f(x) - f(x')` in the limit, under the default options.
        baseline: whether the attributions depend on the baseline under given options.
        path: names the points that it evaluates under given options: methods of equal names evaluate the same ones;
            None for points of its own.
        references: how many images of the data set it wants to compare with under given options; 0 for none.
        presets: named settings of a reference.
        control: whether it is no explanation but a floor for the others, such as random numbers.
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
    control: bool = False
    revision: int = 0

    def parse(self, given: Mapping[str, Any]) -> Any:
        """Options from plain values, or a `UsageError` that names the field."""
        return with_preset(self.options, self.presets, given, f"methods.{self.name}")


# What metrics judge, in the order of reports.
FAMILIES = ("faithfulness", "information", "localization", "complexity", "robustness", "randomisation", "certainty")


@dataclass(frozen=True)
class MetricSpec:
    """A metric of the registry.

    Attributes:
        name: registry name.
        compute: `(evaluation, options) -> MetricResult`, a pure function on a batch.
        options: frozen dataclass of `option` fields.
        columns: scalar column -> better direction, ``higher``, ``lower`` or ``none``; the first is the headline.
        curves: names of the curve columns, each ending in ``_curve``.
        definition, range, reference: one line each.
        forwards: forward evaluations per image and map under given options, beyond the one on the image itself.
        explanations: how often it explains an image again under given options, at the method's whole cost.
        needs: of ``map``, ``model``, ``mask``, ``method`` and ``samples``: what must be at hand.
        presets: named settings of a reference.
        family: what it judges, one of `FAMILIES`; reports show a table for each.
        vectors: names of further list columns, one fixed length each, which are stored and not drawn.
        dataset_columns: number of the whole data set -> better direction.
        dataset: `(columns, options) -> numbers`, all `dataset_columns` from the stored columns of one model and
            method: scalars (N,), curves and vectors (N, n), of the images that have each of them; n = 0 where no
            image of the method has the list, and NaN for a number that is made from it.
        resampled: `(columns, counts, options) -> numbers`, (R,) each: what `dataset` gives of the images with image i
            taken counts[r, i] times, counts (R, N); None where each image must be there once, or it takes too long.
        shares: the columns that are 0 or 1 for each image, so that their mean is a share of the images.
        incomparable: column -> why methods cannot be ranked by it, although it has a better direction.
        descriptions: column, curve, vector or number of the data set -> one line, where `definition` does not say it.
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

    def parse(self, given: Mapping[str, Any]) -> Any:
        """Options from plain values, or a `UsageError` that names the field."""
        return with_preset(self.options, self.presets, given, f"metrics.{self.name}")

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of all that is stored or made of it: columns, curves, vectors and numbers of the data set."""
        return (*self.columns, *self.curves, *self.vectors, *self.dataset_columns)

    def description(self, name: str) -> str:
        """One line on any of `stored`.

        Raises:
            KeyError: nothing of that name is known.
        """
        if name in self.descriptions:
            return self.descriptions[name]
        if name == next(iter(self.columns)):
            return self.definition
        signed = re.sub("_abs(_curve)?$", r"\1", name)
        if name not in self.stored or signed == name:
            raise KeyError(name)
        return f"{self.description(signed)}; in the order of |map|"


METHODS: Registry[MethodSpec] = Registry("method", "ssig.methods")
METRICS: Registry[MetricSpec] = Registry("metric", "ssig.metrics")

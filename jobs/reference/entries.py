"""The pages of methods and metrics, from the registries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobs.commands.printing import text
from jobs.reference.markdown import code, page, plain, table
from ssig.estimators.samplers import SAMPLERS, SPECTRA
from ssig.options import OptionDoc
from ssig.registry import METRICS, MetricSpec
from ssig.registry.catalogue import METHOD, METRIC, Record, options_of, records

_OPTIONS = ("option", "default", "allowed", "what it sets")


def methods() -> str:
    """The page of the methods."""
    chosen = list(records(METHOD).values())
    shared = _shared(chosen)
    overview = table(
        ("method", "gradients", "forwards", "complete", "paper"),
        (
            (
                _link(record),
                _count(record["gradients"]),
                _count(record["forwards"]),
                record["complete"],
                plain(record["paper"]),
            )
            for record in chosen
        ),
    )
    return page(
        "Methods",
        "`ssig/methods/`",
        "`ssig methods` prints this list, and `ssig methods NAME` one entry with its options. An option is typed "
        "behind the name: `--method ig:steps=64`. In a job file: `{name: ig, steps: 64}`.",
        "`x` is the image, `x'` the baseline, `f` the explained score of the target, `grad f` its gradient. "
        "*Gradients* is the number of gradient evaluations for one image by default, *forwards* the number of "
        "evaluations without a gradient, besides those that score the image and its baseline. A forward takes about "
        "two fifths of the time of a gradient. *Complete* methods promise that the attributions sum to "
        "`f(x) - f(x')`. Controls explain nothing: read the numbers of the others against theirs.",
        overview,
        "## Options of most methods",
        _option_table(shared),
        "## Samplers",
        "A suppression sampler draws a mask `m` from 0 to 1 and evaluates the network at `x̂ = x' + m (x - x')`. For "
        "sample k of K, `rho_k = (k + 1/2) / K`. The exact law of the paper is not public, so it is a family of named "
        "choices.",
        table(("`sampler`", "law"), ((code(name), plain(law)) for name, law in SAMPLERS.items())),
        table(
            ("`spectrum`", "mask of the sampler `frequency`"), ((code(n), plain(law)) for n, law in SPECTRA.items())
        ),
        *(_method(record, shared) for record in chosen),
    )


def metrics() -> str:
    """The page of the metrics."""
    chosen = list(records(METRIC).values())
    overview = table(
        ("metric", "family", "better", "network evaluations", "further explanations"),
        (
            (
                _link(record),
                record["family"],
                record["better"],
                _count(record["forwards"]),
                _count(record["explanations"]),
            )
            for record in chosen
        ),
    )
    return page(
        "Metrics",
        "`ssig/metrics/`",
        "`ssig metrics` prints this list, and `ssig metrics NAME` one entry with its options. An option is typed "
        "behind the name: `--metric insertion:steps=64`. In a job file: `{name: insertion, steps: 64}`.",
        "Metrics are computed from the maps as they are stored. *Network evaluations* is the number of forward passes "
        "for one map by default, *further explanations* how often the method explains the image again. The first "
        "column of a metric is its headline. Columns that end in `_abs` use the order of the map's magnitudes.",
        overview,
        *(_metric(record, METRICS[record["name"]]) for record in chosen),
    )


def _method(record: Record, shared: Sequence[OptionDoc]) -> str:
    options = options_of(record)
    own = [option for option in options if option not in shared]
    absent = [option for option in shared if option.name not in {given.name for given in options}]
    facts = [
        f"Paper: {plain(record['paper'])}.",
        f"Gradients: {_count(record['gradients'])}."
        + (f" Forwards: {record['forwards']}." if record["forwards"] else "")
        + f" Complete: {record['complete']}.",
        "Only for networks with attention." if record["attention"] else "",
        "A control." if record["control"] else "",
        f"Takes {record['references']} other images of the data set as references." if record["references"] else "",
        f"Without the options {', '.join(code(option.name) for option in absent)} of most methods." if absent else "",
    ]
    return "\n\n".join(
        filter(
            None,
            (
                _heading(record),
                f"```text\n{record['equation']}\n```",
                " ".join(filter(None, facts)),
                _option_table(own),
                _presets(record["presets"]),
            ),
        )
    )


def _metric(record: Record, spec: MetricSpec) -> str:
    needs = {
        "map": "the map",
        "values": "the method's values of each channel (`output.channels: true`)",
        "model": "the network",
        "mask": "boxes or a mask",
        "method": "the method itself",
    }
    needed = [needs.get(need, f"the method's {need}") for need in record["needs"]]
    sentence = record["definition"]
    # A definition may begin with the name of a variable or an operator, which has no capital letter.
    facts = [
        f"Better: {record['better']}. Range: {plain(record['range'])}.",
        f"Needs: {', '.join(needed)}." if needed else "",
        f"Source: {plain(record['reference'])}.",
    ]
    return "\n\n".join(
        filter(
            None,
            (
                _heading(record),
                plain(sentence[0].upper() + sentence[1:]) + ".",
                " ".join(filter(None, facts)),
                _columns(spec),
                _option_table(options_of(record)),
                _presets(record["presets"]),
            ),
        )
    )


def _columns(spec: MetricSpec) -> str:
    """The columns of a metric: one number an image, lists, and numbers of the whole data set."""
    rows = [(code(name), better, plain(spec.description(name))) for name, better in spec.columns.items()]
    rows += [(code(name), "", f"{plain(spec.description(name))} (a list)") for name in (*spec.curves, *spec.vectors)]
    rows += [
        (code(name), better, f"{plain(spec.description(name))} (one number for all images, in the report)")
        for name, better in spec.dataset_columns.items()
    ]
    ranked = [f"`{name}` does not rank methods: {plain(reason)}." for name, reason in spec.incomparable.items()]
    return "\n\n".join([table(("column", "better", "holds"), rows), *ranked])


def _option_table(options: Iterable[OptionDoc]) -> str:
    rows = [
        (code(option.name), code(text(option.default)), plain(option.allowed), plain(option.doc)) for option in options
    ]
    return table(_OPTIONS, rows) if rows else ""


def _presets(presets: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"- `preset={title}`: {_settings(values)}" for title, values in presets.items()]
    return "\n".join(["Presets set several options at once:", "", *lines]) if lines else ""


def _settings(values: Mapping[str, Any]) -> str:
    """Options of a preset; of a long list only how many numbers it has and its ends."""

    def shown(value: Any) -> str:
        if isinstance(value, list) and len(value) > 6:
            return f"{value[0]:.4g} to {value[-1]:.4g} ({len(value)} numbers)"
        return text(value)

    return ", ".join(code(f"{name}: {shown(value)}") for name, value in values.items())


def _shared(chosen: Sequence[Record]) -> list[OptionDoc]:
    """The options that more than half of all entries have with the same default."""
    counts = Counter(option for record in chosen for option in options_of(record))
    return [option for option, count in counts.items() if 2 * count > len(chosen)]


def _link(record: Record) -> str:
    """The name of an entry, as a link to its section."""
    return f"[`{record['name']}`](#{_anchor(record['name'])})"


def _heading(record: Record) -> str:
    """The heading of an entry's section. Sites drop a plus from the anchors that they make, so it gets its own."""
    name = record["name"]
    mark = "" if _anchor(name) == name else f'<a id="{_anchor(name)}"></a>\n\n'
    return f"{mark}## `{name}`"


def _anchor(name: str) -> str:
    return str(name).replace("++", "-plus-plus")


def _count(number: int | None) -> str:
    return "varies" if number is None else str(number)

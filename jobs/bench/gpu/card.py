"""The card: a record as a page of plain text, at most 80 columns wide, with a verdict for each target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.bench.gpu.session import ERROR, LEFT_OUT, RULE, failed

COLUMNS = 80
MET, NOT_MET, UNPROVED = "met", "not met", "unproved"
FLOAT64, METRIC_RULE = 1e-8, 1e-3
OF_BARE, OVER_CAPTUM, BUSY = 0.9, 3.0, 0.8
# In float32 a step takes the pixels of smallest gradient: one other rounding, and all later steps differ.
CHAOTIC = ("guided-ig", "idgi-guided")
# Drawn without Fourier transforms and interpolation: the points are the same bit for bit.
EXACT_DRAWS = ("uniform", "uniform-channel", "bernoulli", "patch-7", "noise", "line")
TOY = "sizes are toys, or there is no GPU"


@dataclass(frozen=True)
class Verdict:
    """A target, what was found, and whether it is met."""

    target: str
    found: str
    verdict: str


def card(record: Mapping[str, Any]) -> str:
    """The page of a record."""
    parts = [
        "# ssig bench gpu",
        machine(record),
        "## Targets",
        table(("target", "found", "verdict"), [(v.target, v.found, v.verdict) for v in verdicts(record)]),
        *rates(record),
        *figures(record),
        "## Sections",
        sections(record),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def machine(record: Mapping[str, Any]) -> str:
    """The card, its driver, and the versions, in a few lines."""
    rows = rows_of(record, "environment")
    found, libraries, host = (_mapping(rows.get(name)) for name in ("card", "libraries", "processor"))
    lines = [
        f"{found.get('name', 'unknown device')}, driver {found.get('driver') or 'none'}, "
        f"torch {libraries.get('torch', '?')}",
        f"Python {libraries.get('python', '?')}, {host.get('cores', '?')} cores of {host.get('name', '?')}",
        f"{record.get('elapsed', 0):.0f} s of {record.get('limit', 0):.0f} s"
        + (", toy sizes" if record.get("tiny") else ""),
    ]
    speeds = [f"{name} {value:g}" for name, value in rows.items() if isinstance(value, int | float)]
    return "\n".join(line[:COLUMNS] for line in [*lines, *wrapped(speeds)])


def verdicts(record: Mapping[str, Any]) -> list[Verdict]:
    """A verdict for each target. Without a GPU, or with toy sizes, none is proved."""
    proves = not record.get("tiny") and _mapping(rows_of(record, "environment").get("card")).get("driver") is not None
    found = [*_agreements(record), *_surprises(record), *_speeds(record)]
    return found if proves else [Verdict(one.target, one.found, UNPROVED) for one in found]


def _agreements(record: Mapping[str, Any]) -> Iterator[Verdict]:
    rows = rows_of(record, "agreement")
    for label, kind, rule in (("float64 maps", "float64 ", FLOAT64), ("float32 maps", "float32 ", RULE)):
        maps = {
            name.removeprefix(kind): _mapping(row).get("map")
            for name, row in rows.items()
            if name.startswith(kind) and (rule == FLOAT64 or name.removeprefix(kind) not in CHAOTIC)
        }
        yield _worst(f"{label} equal the CPU's to {rule:g}", maps, rule)
    real = {name: _mapping(row).get("map") for name, row in rows.items() if name.startswith("fp32 ")}
    real = {name: value for name, value in real.items() if not name.endswith(CHAOTIC)}
    yield _worst(f"lite0 maps in fp32 equal the CPU's to {RULE:g}", real, RULE)
    draws = {name: rows[name] for law in EXACT_DRAWS if (name := f"draws {law}") in rows}
    unequal = [name for name, value in draws.items() if value != "equal"]
    target = "draws equal the CPU's bit for bit"
    if not draws:
        yield Verdict(target, "-", UNPROVED)
    else:
        yield Verdict(target, f"{len(draws) - len(unequal)} of {len(draws)}", NOT_MET if unequal else MET)
    metrics = {name: _mapping(row).get("difference") for name, row in rows.items() if name.startswith("metric ")}
    yield _worst(f"metrics equal the CPU's to {METRIC_RULE:g}", metrics, METRIC_RULE)
    batches = rows_of(record, "equality")
    for precision in ("fp32", "fp16"):
        worst = {name: _mapping(row).get("100%") for name, row in batches.items() if f" {precision} " in name}
        yield _worst(f"maps in {precision} keep to {RULE:g} in other batches", worst, RULE)


def _surprises(record: Mapping[str, Any]) -> Iterator[Verdict]:
    row = _mapping(rows_of(record, "surprises").get("a class out of range"))
    clear = str(row.get("answer", "")).startswith("a clear error") and row.get("afterwards") == "a result"
    target = "a class out of range is a clear error"
    if not row or failed(row):
        yield Verdict(target, "-", UNPROVED)
    else:
        yield Verdict(target, "yes" if clear else "no", MET if clear else NOT_MET)


def _speeds(record: Mapping[str, Any]) -> Iterator[Verdict]:
    rows = rows_of(record, "rates")
    fast, plain = _mapping(rows.get("resnet50 fp16")), _mapping(rows.get("resnet50 fp32"))
    for method in ("ssig", "ig", "smoothgrad"):
        share = _mapping(fast.get("engine over bare")).get(method)
        yield _least(f"{method}, resnet50 fp16: {OF_BARE:g} of the bare loop", share, OF_BARE)
    yield _least(f"ig, fp16: {OVER_CAPTUM:g} x Captum as loaded (fp32)", _over(fast, plain), OVER_CAPTUM)
    yield _least(f"ig, fp16: {OVER_CAPTUM:g} x Captum in fp16", _over(fast, fast), OVER_CAPTUM)
    busy = _mapping(rows_of(record, "busy").get("resnet50 fp16, ssig and metrics")).get("share")
    yield _least(f"busy beside three metrics: {BUSY:.0%} of the time", busy, BUSY)


def _over(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float | None:
    mine, peer = ours.get("ig"), theirs.get("captum")
    return mine / peer if isinstance(mine, float) and isinstance(peer, float) else None


def _worst(target: str, values: Mapping[str, Any], rule: float) -> Verdict:
    """Whether all values are at most the rule; a value that is no number counts against it."""
    numbers = [value for value in values.values() if isinstance(value, int | float)]
    if not values or (not numbers and len(values) > 0):
        return Verdict(target, "-", UNPROVED)
    good = [value for value in numbers if value <= rule]
    worst = max(numbers, key=lambda value: (value != value, value))
    found = f"{worst:.1e}; {len(good)}/{len(values)}"
    return Verdict(target, found, MET if len(good) == len(values) else NOT_MET)


def _least(target: str, value: object, rule: float) -> Verdict:
    if not isinstance(value, int | float):
        return Verdict(target, "-", UNPROVED)
    return Verdict(target, f"{value:.2f}", MET if value >= rule else NOT_MET)


def rates(record: Mapping[str, Any]) -> list[str]:
    """The table of gradients a second, under its heading; nothing without rates."""
    names = ("bare", "ssig", "ig", "smoothgrad", "eager", "captum")
    rows = [
        (case, *(_number(_mapping(row).get(name)) for name in names))
        for case, row in rows_of(record, "rates").items()
        if not failed(row)
    ]
    return ["## Gradients a second", table(("network", *names), rows)] if rows else []


def figures(record: Mapping[str, Any]) -> list[str]:
    """One line for each further measurement, under its heading."""
    lines: list[str] = []
    for section, names in FIGURES.items():
        for case, row in rows_of(record, section).items():
            if failed(row):
                continue
            values = row if isinstance(row, Mapping) else {"": row}
            shown = [f"{name} {_number(values[name])}".strip() for name in names if values.get(name) is not None]
            lines += [f"- {case}: {', '.join(shown)}"] if shown else []
    return ["## Further figures", "\n".join(lines)] if lines else []


# Section -> what of a measurement is on the card.
FIGURES: dict[str, tuple[str, ...]] = {
    "busy": ("share", "images/s"),
    "equality": ("50%", "100%", "share within 1e-4"),
    "metrics": ("maps/s",),
    "draws": ("",),
    "threads": ("",),
    "slow": ("ms per image", "gradients/s"),
    "graphs": ("gain",),
    "layout": ("",),
    "decode": ("",),
}


def sections(record: Mapping[str, Any]) -> str:
    """The seconds of each section, and what was left out or failed."""
    seconds = record.get("seconds", {})
    lines = wrapped([f"{name} {value:g} s" for name, value in seconds.items()])
    for section, rows in record.get("sections", {}).items():
        if LEFT_OUT in rows:
            lines.append(f"- {section}: left out: {rows[LEFT_OUT]}")
            continue
        for case, row in rows.items():
            if failed(row):
                kind = ERROR if ERROR in row else LEFT_OUT
                lines.append(f"- {section}, {case}: {kind}: {row[kind]}")
    return "\n".join(line if len(line) <= COLUMNS else f"{line[: COLUMNS - 3]}..." for line in lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is also read as plain text; the first column is cut where it would be too wide."""
    rest = [max(len(row[place]) for row in (header, *rows)) for place in range(1, len(header))]
    first = max(len(row[0]) for row in (header, *rows))
    first = min(first, COLUMNS - sum(rest) - 3 * len(header) - 1)
    widths = [first, *rest]
    lines = [
        "| " + " | ".join(cell[:width].ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (header, *rows)
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def wrapped(items: Sequence[str]) -> list[str]:
    """Items with commas, in lines of at most 80 characters."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + len(item) + 2 <= COLUMNS:
            lines[-1] += f", {item}"
        else:
            lines.append(item)
    return lines


def rows_of(record: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The measurements of a section; none if it was left out."""
    rows = record.get("sections", {}).get(section, {})
    return {} if LEFT_OUT in rows else rows


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1e}"

"""What the report says about who leads, in a few lines for the terminal. It says no more than the report's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_LINES = 3


def entries(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry for each model and metric of a `report.json`.

    `leader` is None where no method leads; `reason` then says why. `images` are the fewest and the most images that
    two methods have in common.
    """
    return [
        {
            "model": model["model"],
            "metric": lead["column"]["name"],
            "leader": lead["leader"],
            "reason": lead["reason"],
            "images": [lead["fewest"], lead["most"]],
        }
        for model in report["models"]
        for lead in model["leads"]
    ]


def lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """At most three lines: a line for each leader, or one sentence where no method leads."""
    if not found:
        return ["No two methods share a metric, so there is nothing to compare."]
    led: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in found:
        if entry["leader"] is not None:
            led.setdefault((entry["model"], entry["leader"]), []).append(entry)
    if not led:
        metrics = len({entry["metric"] for entry in found})
        on = f"any of the {metrics} metrics" if metrics > 1 else found[0]["metric"]
        return [f"No method leads on {on} ({_images(found)})."]
    several = len({entry["model"] for entry in found}) > 1
    told = [
        f"{f'{model}: ' if several else ''}{method} leads on {_listed(metrics)} ({_images(metrics)})"
        for (model, method), metrics in led.items()
    ]
    left = len(found) - sum(map(len, led.values()))
    rest = [f"no method leads on {left} more metrics"] if left else []
    most = MOST_LINES - len(rest)
    if len(told) > most:
        more = len(told) - most + 1
        told = [*told[: most - 1], f"{more} more methods lead on some metric: see the report"]
    return [*told, *rest]


def _listed(metrics: Sequence[Mapping[str, Any]]) -> str:
    names = [entry["metric"] for entry in metrics]
    return ", ".join(names) if len(names) <= MOST_LINES else f"{len(names)} metrics, such as {names[0]}"


def _images(found: Sequence[Mapping[str, Any]]) -> str:
    fewest, most = min(entry["images"][0] for entry in found), max(entry["images"][1] for entry in found)
    return f"N = {fewest:,}" if fewest == most else f"N = {fewest:,} to {most:,}"

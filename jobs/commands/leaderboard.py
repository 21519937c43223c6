"""What the report says about who leads, for the terminal and for programs: the report's own sentence."""

from __future__ import annotations

from collections.abc import Mapping
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


def verdicts(report: Mapping[str, Any]) -> list[str]:
    """The report's first sentence of each model, at most `MOST_LINES` lines."""
    models = report["models"]
    told = [f"{model['model']}: {model['verdict']}" if len(models) > 1 else model["verdict"] for model in models]
    if len(told) <= MOST_LINES:
        return told
    return [*told[: MOST_LINES - 1], f"{len(told) - MOST_LINES + 1} more models: see the report"]

"""Names that the shell completes: from the catalogue, without importing a method, a metric or torch."""

from __future__ import annotations


def methods(incomplete: str) -> list[str]:
    """Names of methods that begin with what was typed."""
    from ssig.registry.catalogue import METHOD, records

    return [name for name in records(METHOD) if name.startswith(incomplete)]


def metrics(incomplete: str) -> list[str]:
    """Names of metrics that begin with what was typed."""
    from ssig.registry.catalogue import METRIC, records

    return [name for name in records(METRIC) if name.startswith(incomplete)]

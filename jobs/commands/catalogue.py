"""`python -m jobs.commands.catalogue` writes `ssig/registry/catalogue.json` from the registries."""

from __future__ import annotations

from pipeline.storage.jsontext import to_json
from ssig.registry.catalogue import PATH, current


def text() -> str:
    """The expected content of the file."""
    return to_json(current(), indent=1, readable=True) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")

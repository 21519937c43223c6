"""`python -m jobs.commands.catalogue` writes `ssig/catalogue.json` from the registries."""

from __future__ import annotations

from ssig.catalogue import PATH, current

if __name__ == "__main__":
    PATH.write_text(current(), encoding="utf-8")

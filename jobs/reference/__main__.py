"""`python -m jobs.reference` writes the generated pages of `docs/`."""

from __future__ import annotations

from jobs.reference.pages import FOLDER, PAGES

if __name__ == "__main__":
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")

"""`python -m jobs.reference` writes the pages of `docs/reference/`."""

from __future__ import annotations

from jobs.reference.pages import FOLDER, PAGES

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")

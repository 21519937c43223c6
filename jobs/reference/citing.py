"""The page on citing, from `CITATION.cff`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.reference.markdown import page
from pipeline.storage import yaml12

FILE = Path(__file__).resolve().parents[2] / "CITATION.cff"
_KINDS = {"article": "article", "conference-paper": "inproceedings", "software": "software"}


def citing() -> str:
    """How to cite the software and the papers that it names."""
    record = yaml12.load(FILE.read_text(encoding="utf-8"))
    entries = [_bibtex({**record, "year": None}), *map(_bibtex, record["references"])]
    return page(
        "Cite",
        "`CITATION.cff`",
        f"{record['message'].rstrip('.')}. [Methods](reference/methods.md) names the paper of each method, "
        "[Metrics](reference/metrics.md) that of each metric.",
        "\n".join(["```bibtex", "\n\n".join(entries), "```"]),
        "State the version (`ssig --version`), the network and its weights, the options of methods and metrics, and "
        "the number of images. `report.json` in the run has all of them.",
    )


def _bibtex(record: Mapping[str, Any]) -> str:
    authors = [author.get("family-names") or f"{{{author['name']}}}" for author in record["authors"]]
    year = record.get("year")
    key = "ssig" if record["type"] == "software" else f"{authors[0].lower()}{year}"
    fields = {
        "title": f"{{{record['title']}}}",
        "author": " and ".join(authors),
        "year": year,
        "version": record.get("version"),
        "booktitle": record.get("conference", {}).get("name"),
        "url": record.get("url"),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value is not None]
    return "\n".join([f"@{_KINDS[record['type']]}{{{key},", *lines, "}"])

"""The study's page and figures, made from its published data alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from jobs.study import extent, first_page, sentences, tables
from jobs.study.against_noise import against_noise
from jobs.study.agreement import agreements, worths
from jobs.study.answers import in_short, short_table
from jobs.study.augmentation import augmentation
from jobs.study.better import better, higher, rises
from jobs.study.choices import QUALITIES, best, costs, reached
from jobs.study.data import GAP, Study
from jobs.study.drawing import numbers_of
from jobs.study.equal_change import NEARNESS, SATURATION, contrasts
from jobs.study.figures import (
    CURVED,
    agreement_figure,
    augmentation_figure,
    cost_figure,
    curves_figure,
    equal_change_figure,
    integrand_figure,
    nearness_figure,
    rivalry_figure,
)
from jobs.study.glance import HARDEST, glance_table, legend
from jobs.study.nearness import links
from jobs.study.open_points import open_points
from jobs.study.published import DIFFERS, of_paper, reproductions, title
from jobs.study.rivalry import OVER, beside_controls, comparisons, leads
from pipeline.report.drawing import styled
from pipeline.storage.jsontext import to_json

PAGE_FOLDER = Path(__file__).resolve().parents[2] / "docs" / "study"
DATA_FOLDER = PAGE_FOLDER / "data"
FIRST_PAGE = PAGE_FOLDER.parents[1] / "README.md"
TEMPLATES = Path(__file__).parent / "templates"
PAGES, FIGURES = ("index.md", "tables.md"), "figures"
NUMBERS = "numbers.json"  # beside the figures: what they are drawn from


def write(data: Path, folder: Path, first: Path | None = None) -> list[Path]:
    """Writes the pages, their figures and the figures' numbers from the blocks' files; the pages and the figures.

    Args:
        data: the blocks' files.
        folder: of the page.
        first: the project's first page, whose section of the study is written too.
    """
    study = Study(data)
    answers = answers_of(study)
    with styled():
        figures = {name: figure for name, figure in figures_of(study, answers).items() if figure is not None}
        numbers = {name: numbers_of(figure) for name, figure in figures.items()}
        # All words are made before anything is written, so that no failure leaves new figures beside an old page.
        rendered = pages(study, answers, tuple(figures))
        section = (
            first_page.section(study, answers)
            if first is not None and any(row.measure == GAP for row in answers["leads"])
            else None
        )
        written = [_save(figure, folder / FIGURES / f"{name}.svg") for name, figure in figures.items()]
    for old in sorted((folder / FIGURES).glob("*.svg")):
        if old not in written:
            old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in rendered.items():
        (folder / name).write_text(text, encoding="utf-8")
    if first is not None and section is not None:
        first_page.update(first, section)
    if numbers:
        (folder / FIGURES / NUMBERS).write_text(to_json(numbers), encoding="utf-8")
    return [*(folder / name for name in PAGES), *written]


def answers_of(study: Study) -> dict[str, Any]:
    """What each question's module finds."""
    compared = comparisons(study)
    led, curves = leads(study, compared), costs(study)
    return {
        "rivalry": compared,
        "leads": led,
        "controls": beside_controls(study, led),
        "near": contrasts(study, NEARNESS),
        "links": links(study),
        "saturation": contrasts(study, SATURATION),
        "augmentation": augmentation(study),
        "best": best(study),
        "costs": curves,
        "reached": reached(study, curves, QUALITIES[-1]),
        "agreements": agreements(study),
        "worths": worths(study),
        "rises": rises(study),
        "noise": against_noise(study),
        "reproductions": reproductions(study),
    }


def figures_of(study: Study, answers: Mapping[str, Any]) -> dict[str, Figure | None]:
    """Name -> figure; None where nothing is measured. They are drawn within `pipeline.report.drawing.styled`."""
    return {
        "rivalry": rivalry_figure(answers["rivalry"]),
        "curves": curves_figure(study),
        "nearness": equal_change_figure(study, tuple(NEARNESS)),
        "certainty": nearness_figure(study),
        "saturation": equal_change_figure(study, tuple(SATURATION)),
        "augmentation": augmentation_figure(answers["augmentation"]),
        "integrands": integrand_figure(answers["best"]),
        "costs": cost_figure(answers["costs"]),
        "agreement": agreement_figure(answers["agreements"]),
    }


def pages(study: Study, answers: Mapping[str, Any], figures: Sequence[str]) -> dict[str, str]:
    """Name -> page as Markdown; only `figures` are shown."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    known = {
        "measured": bool(study.files),
        "table": tables.markdown,
        "figure": lambda name, caption: f"![{caption}]({FIGURES}/{name}.svg)" if name in figures else "",
        **_answered(study, answers),
        **_tables(study, answers),
    }
    read = {name: environment.from_string((TEMPLATES / name).read_text(encoding="utf-8")) for name in PAGES}
    return {name: _spaced(template.render(known)) for name, template in read.items()}


def _answered(study: Study, answers: Mapping[str, Any]) -> dict[str, Any]:
    """The sentences of the page."""
    return {
        "answers": in_short(answers),
        "legend": legend(answers["rivalry"]) if answers["rivalry"] else "",
        "hardest": HARDEST,
        "progress": extent.progress(study),
        "groups": extent.groups(study),
        "compared": extent.compared(answers["rivalry"]),
        "losses": sentences.losses(answers["leads"]),
        "rivalry": sentences.rivalry(answers["rivalry"]),
        "wins": sentences.wins(answers["rivalry"]),
        "detectable": sentences.detectable(answers["rivalry"]),
        "of_fewer": sentences.of_fewer(study, CURVED),
        "near": sentences.contrast(answers["near"], "nearer", "farther"),
        "nearer": sentences.nearer_everywhere(answers["near"]),
        "saturation": sentences.contrast(answers["saturation"], "lower", "higher"),
        "agreement": sentences.agreement(answers["agreements"], answers["worths"]),
        "noise": sentences.noise(answers["noise"]),
        "reproduced": sentences.reproduction(answers["reproductions"]),
    }


def _tables(study: Study, answers: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of the page."""
    rivalry = answers["rivalry"]
    return {
        "answer_rows": short_table(in_short(answers)),
        "glance": glance_table(study, answers["leads"]),
        "coverage": extent.coverage(study),
        "lead_rows": tables.lead_table(answers["leads"]),
        "control_rows": tables.control_table(answers["controls"]),
        "default_rows": tables.default_table(rivalry),
        "rivalry_tables": _by_network(rivalry, tables.rivalry_table),
        "mean_tables": [(title(name), tables.mean_table(study, name)) for name in study.networks("core")],
        "loss_rows": tables.losses_table(rivalry),
        "over": tables.over_table(rivalry),
        "near_tables": _by_network(answers["near"], tables.contrast_table),
        "link_rows": tables.link_table(answers["links"]),
        "saturation_tables": _by_network(answers["saturation"], tables.contrast_table),
        "augmentation_rows": tables.augmentation_table(answers["augmentation"]),
        "best_rows": tables.best_table(answers["best"]),
        "cost_rows": tables.cost_table(answers["costs"]),
        "between": tables.between_table(answers["agreements"]),
        "told": tables.told_table(answers["worths"]),
        "worth": tables.worth_table(answers["worths"]),
        "better_rows": tables.better_table(answers["rises"], better(answers["rises"])),
        "higher_rows": tables.better_table(answers["rises"], higher(answers["rises"])),
        "noise_tables": _by_network(answers["noise"], tables.against_noise_table),
        "reproductions": [
            (
                paper,
                title(rows[0].published.network),
                sentences.reproduction(rows),
                differs,
                tables.reproduction_table(rows),
            )
            for paper, differs in DIFFERS.items()
            if (rows := of_paper(answers["reproductions"], paper))
        ],
        "open_points": open_points(study),
        "provenance": extent.provenance(study),
        "network_rows": extent.network_table(study),
    }


def _by_network(
    rows: Sequence[Any], table: Callable[[Sequence[Any], str], tables.Table]
) -> list[tuple[str, tables.Table]]:
    """The name of each network, with its table."""
    return [
        ("Over networks" if network == OVER else title(network), table(rows, network))
        for network in dict.fromkeys(row.network for row in rows)
    ]


def _spaced(rendered: str) -> str:
    """Without blank lines in a row."""
    lines: list[str] = []
    for line in rendered.splitlines():
        if line.strip() or (lines and lines[-1]):
            lines.append(line.rstrip())
    return "\n".join(lines).strip() + "\n"


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, facecolor="#ffffff")
    return path

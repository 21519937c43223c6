"""The report's tables in LaTeX with booktabs: the same numbers, and bold type only where the report has a leader."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.report import numbers
from pipeline.report.columns import Column
from pipeline.report.comparison import Difference, Estimate
from pipeline.report.contents import ModelReport, Report
from pipeline.report.export.names import slug
from pipeline.report.statistics import ALPHA, CONFIDENCE
from pipeline.report.whole import Whole

MOST_COLUMNS = 5  # of a table, so that it fits a page
PREVIEW = "preview.tex"
_NEEDED = "% Needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}."
_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": "{`}",  # after ? or ! it would turn them over
    "[": "{[}",  # after a line's end it would be an argument
    "]": "{]}",
    "*": "{*}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "\0",
    "\N{EM DASH}": "\0",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{NO-BREAK SPACE}": "~",
    "\N{LESS-THAN OR EQUAL TO}": r"$\le$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\ge$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
}
_DASH = "\0"  # until hyphens are set
_DOUBLED = re.compile(r"([-'])(?=\1)")  # two of them would become one other sign
_LAST_LETTER = 0x17F  # fonts in T1 encoding have the letters up to here
_ARROWS = {"higher": r"~$\uparrow$", "lower": r"~$\downarrow$"}
_SHARES = f"{100 * CONFIDENCE:.0f}\\,\\%"


@dataclass(frozen=True)
class _Table:
    """A table: of each row its name and, one below the other, the lines of its cells; all of it LaTeX."""

    label: str
    caption: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Sequence[str]]]]
    foot: Sequence[str] = ()


def write_latex(report: Report, folder: Path) -> list[Path]:
    """Writes a file for each kind of table and model, and a document with all of them; the files, in order."""
    files = []
    for number, model in enumerate(report.models, 1):
        ending = "" if len(report.models) == 1 else f"-{number}-{slug(model.model)}"
        for kind, make in _KINDS.items():
            tables = list(make(model, ending))
            if tables:
                files.append(folder / f"{kind}{ending}.tex")
                text = "\n".join(map(_environment, tables))
                files[-1].write_text(
                    f"% Needs \\usepackage{{booktabs}} and [T1]{{fontenc}}.\n{text}", encoding="utf-8"
                )
    preview = folder / PREVIEW
    preview.write_text(_document([file.stem for file in files]), encoding="utf-8")
    return [*files, preview]


def escaped(text: object) -> str:
    """Text that LaTeX sets as it is; a letter that common fonts lack by its code."""
    signs = map(_sign, unicodedata.normalize("NFC", str(text)))
    return _DOUBLED.sub(r"\1{}", "".join(signs)).replace(_DASH, "--")


def _sign(sign: str) -> str:
    if sign in _SIGNS:
        return _SIGNS[sign]
    if sign.isspace() or not sign.isprintable():
        return " "
    is_set = ord(sign) < 0x7F or (0xC0 <= ord(sign) <= _LAST_LETTER and sign.isalpha())
    return sign if is_set else f"{{[}}U+{ord(sign):04X}{{]}}"


def _means(model: ModelReport, ending: str) -> Iterator[_Table]:
    for family, columns in model.families.items():
        for part, chosen in enumerate(_parts(columns)):
            rows = [
                (escaped(method), _cells([_mean_cell(model, method, column) for column in chosen]))
                for method in model.methods
            ]
            counts = [
                _counts([model.comparison.means[name][column.name] for name in model.methods]) for column in chosen
            ]
            caption = (
                f"{escaped(family.capitalize())}: means over images with their {_SHARES} intervals "
                "(studentised; of shares Wilson's), each for itself. Bold: the method leads, which means that it "
                "beats each other method on the images that both have; without bold no method leads. "
                f"{escaped(model.correction)} Arrows: the better direction. {_setting(model)}"
            )
            yield _Table(f"means-{slug(family)}-{part + 1}{ending}", caption, _heads(chosen), rows, ["$N$", *counts])


def _mean_cell(model: ModelReport, method: str, column: Column) -> Sequence[str]:
    estimate = model.comparison.means[method][column.name]
    if not estimate.count:
        return ["--", ""]
    lead = model.comparison.leads.get(column.name)
    mean = escaped(numbers.number(estimate.mean))
    bold = lead is not None and lead.leader == method
    return [f"\\textbf{{{mean}}}" if bold else mean, _small(numbers.interval(estimate))]


def _differences(model: ModelReport, ending: str) -> Iterator[_Table]:
    for family, columns in model.families.items() if model.others else ():
        for part, chosen in enumerate(_parts(columns)):
            rows = [
                (
                    escaped(method),
                    _cells([_difference_cell(model.comparison.differences[method][column.name]) for column in chosen]),
                )
                for method in model.others
            ]
            differences = model.comparison.differences.values()
            counts = [_counts([row[column.name] for row in differences]) for column in chosen]
            caption = (
                f"{escaped(family.capitalize())}: each method minus {escaped(model.reference)} on the images that "
                f"both have, with the {_SHARES} interval of that difference alone ($t$; of shares Newcombe's). An "
                f"asterisk marks what is told apart from 0 at {100 * ALPHA:.0f}\\,\\% (paired $t$, Holm over "
                f"{model.comparison.verdicts:,} comparisons); $p$ is corrected. Arrows: the better direction. "
                f"{_setting(model)}"
            )
            label = f"differences-{slug(family)}-{part + 1}{ending}"
            yield _Table(label, caption, _heads(chosen), rows, ["$N$", *counts])


def _difference_cell(difference: Difference) -> Sequence[str]:
    if not difference.count:
        return ["--", "", ""]
    mark = "$^{\\ast}$" if difference.verdict else ""
    p = "" if difference.p is None else f"{{\\scriptsize $p$ {escaped(numbers.p_value(difference.p))}}}"
    return [f"{escaped(numbers.signed(difference.mean))}{mark}", _small(numbers.interval(difference)), p]


def _leads(model: ModelReport, ending: str) -> Iterator[_Table]:
    if not model.leads:
        return
    rows = []
    for lead in model.leads:
        difference = lead.difference or Estimate(None, None, None, 0)
        leader = "--" if lead.leader is None else f"\\textbf{{{escaped(lead.leader)}}}"
        count = numbers.integer(lead.difference.count if lead.difference else lead.most)
        cells = [
            *(leader, _name(lead.ahead), _name(lead.rival), escaped(numbers.signed(difference.mean))),
            *(_small(numbers.interval(difference)), escaped(count), escaped(numbers.p_value(lead.p))),
        ]
        rows.append((_head(lead.column), [cells]))
    caption = (
        "Who leads. Ahead: better than each other method on the mean paired difference, be it by chance. Difference: "
        f"ahead minus its nearest rival on the images that both have, with its {_SHARES} interval. "
        f"{escaped(model.correction)} {_setting(model)}"
    )
    head = ["Metric", "Leads", "Ahead", "Nearest rival", "Difference", "Interval", "$N$", "$p$"]
    yield _Table(f"leads{ending}", caption, head, rows)


def _data_set(model: ModelReport, ending: str) -> Iterator[_Table]:
    for part, chosen in enumerate(_parts(model.wholes)):
        rows = [
            (escaped(method), _cells([_whole_cell(whole.estimates[method]) for whole in chosen]))
            for method in model.methods
        ]
        counts = [_counts(list(whole.estimates.values())) for whole in chosen]
        caption = (
            "Numbers of the whole data set, which are no means over images, on the images that all methods have, with "
            f"paired percentile intervals of {_SHARES} where they can be had. No verdict is made of them. "
            f"Arrows: the better direction. {_setting(model)}"
        )
        heads = ["Method", *(f"{escaped(whole.name)}{_ARROWS.get(whole.direction, '')}" for whole in chosen)]
        yield _Table(f"data-set-{part + 1}{ending}", caption, heads, rows, ["$N$", *counts])


def _whole_cell(estimate: Estimate) -> Sequence[str]:
    interval = "" if estimate.low is None else _small(numbers.interval(estimate))
    return [escaped(numbers.number(estimate.mean)), interval]


_KINDS: dict[str, Callable[[ModelReport, str], Iterator[_Table]]] = {
    "means": _means,
    "differences": _differences,
    "leads": _leads,
    "data-set": _data_set,
}


def _parts(columns: Sequence[Column] | Sequence[Whole]) -> Iterator[Sequence[Any]]:
    """As few parts as fit, of nearly equal size."""
    count = -(-len(columns) // MOST_COLUMNS)
    for part in range(count):
        yield columns[part * len(columns) // count : (part + 1) * len(columns) // count]


def _cells(cells: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """The lines of a row, from the lines of its cells; those that are empty are left out."""
    return [line for line in zip(*cells, strict=True) if any(line)]


def _heads(columns: Iterable[Column]) -> Sequence[str]:
    return ["Method", *map(_head, columns)]


def _head(column: Column) -> str:
    return f"{escaped(column.shown)}{_ARROWS.get(column.direction, '')}"


def _name(method: str | None) -> str:
    return "--" if method is None else escaped(method)


def _small(interval: str) -> str:
    """An interval, whose brackets are safe in a group."""
    return f"{{\\scriptsize {escaped(interval).replace('{[}', '[').replace('{]}', ']')}}}"


def _counts(estimates: Sequence[Estimate]) -> str:
    counts = sorted({estimate.count for estimate in estimates} - {0})
    if not counts:
        return "--"
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}--{counts[-1]:,}"


def _setting(model: ModelReport) -> str:
    facts = model.provenance.model
    weights = str(facts.get("weights_hash", numbers.NONE))[:16]
    return escaped(f"Network: {model.model}, weights {weights}, precision {facts.get('precision', numbers.NONE)}.")


def _environment(table: _Table) -> str:
    lines = [
        "\\begin{table}[t]",
        "\\centering\\small",
        f"\\caption{{{table.caption}}}",
        f"\\label{{tab:ssig-{table.label}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
        "\\toprule",
        f"{' & '.join(table.head)} \\\\",
        "\\midrule",
    ]
    for name, cells in table.rows:
        lines += [f"{name if not number else ''} & {' & '.join(line)} \\\\" for number, line in enumerate(cells)]
    if table.foot:
        lines += ["\\midrule", f"{' & '.join(table.foot)} \\\\"]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _document(names: Sequence[str]) -> str:
    inputs = "\n".join(f"\\input{{{name}}}" for name in names)
    return (
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage[utf8]{inputenc}\n\\usepackage{booktabs}\n"
        f"\\usepackage[margin=2cm]{{geometry}}\n\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )

"""LaTeX tables: the report's numbers, bold only for its leaders, and text that LaTeX can set."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_runs import HOSTILE_LABEL as LABEL

from pipeline.report import numbers
from pipeline.report.contents import Report, contents
from pipeline.report.export.latex import PREVIEW, escaped, write_latex
from pipeline.run.reader import open_run

HOSTILE = (
    "\\input{/etc/passwd} 100% & more_than $x^2$ #1 {a} ~b <c> |d| \"e\" 'f' ''g'' `h` [i] *j* -- −1 × é 中 \u202e\n\t"
)


@pytest.fixture(scope="module")
def report(written_run: Any) -> Report:
    return contents(open_run(written_run.path))


def unbalanced(text: str) -> list[str]:
    """What of a LaTeX text does not close: braces, environments, and dollar signs; comments are left out."""
    unopened, open_ = [], []
    text = re.sub(r"(?<!\\)%.*", "", text)
    for match in re.finditer(r"\\(?:begin|end)\{(\w+)\}|\\.|[{}$]", text, re.DOTALL):
        token = match[0]
        if token.startswith("\\begin"):
            open_.append(match[1])
        elif token == "{" or (token == "$" and open_[-1:] != ["$"]):
            open_.append(token)
        elif token in "}$" or token.startswith("\\end"):
            wanted = match[1] or {"}": "{", "$": "$"}[token]
            if not open_ or open_.pop() != wanted:
                unopened.append(token)
    return [*unopened, *open_]


@pytest.mark.parametrize("text", [HOSTILE, LABEL, "", "-", "---", "'''", "{{{", "$$", "\\\\", "a\x00b"])
def test_text_is_set_as_it_is(text: str) -> None:
    latex = escaped(text)
    assert unbalanced(latex) == []
    bare = re.sub(r"\\(?:text\w+|ldots)\{\}|\$(?:-|\\\w+)\$|\\[{}$&#%_]|\{[`\[\]*]\}", "", latex)
    assert not set(bare.replace("{}", "")) & set('\\{}$&#%_^~[]*`"<>|') - {"~"}
    assert "''" not in latex
    assert latex.isprintable()
    assert all(ord(sign) < 0x180 for sign in latex)


def test_hyphens_stay_hyphens_and_dashes_dashes() -> None:
    assert escaped("a--b-c") == "a-{}-b-c"
    assert escaped("1\N{EN DASH}2 \N{MINUS SIGN}3") == "1--2 $-$3"
    assert escaped("中") == "{[}U+4E2D{]}"


def test_every_file_is_balanced_and_its_rows_have_as_many_cells(report: Report, tmp_path: Path) -> None:
    files = write_latex(report, tmp_path)
    assert [path.name for path in files] == ["means.tex", "differences.tex", "leads.tex", PREVIEW]
    for path in files[:-1]:
        text = path.read_text()
        assert unbalanced(text) == []
        for table in re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.DOTALL):
            columns = len(re.match(r"\{(\w+)\}", table)[1])  # type: ignore[index]
            rows = [line for line in table.splitlines() if line.endswith(r"\\")]
            assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {columns}
        assert text.count(r"\caption{") == text.count(r"\begin{table}") == text.count(r"\label{")


def test_numbers_are_those_of_the_report(report: Report, tmp_path: Path) -> None:
    text = write_latex(report, tmp_path)[0].read_text()
    (model,) = report.models
    for row in model.comparison.means.values():
        for column in model.headlines:
            if row[column.name].count:
                assert escaped(numbers.number(row[column.name].mean)) in text
                assert numbers.interval(row[column.name]).replace("−", "$-$") in text
    assert escaped(model.correction) in text
    assert "$N$ & 22 & 22" in text
    assert r"95\,\%" in text


def test_bold_is_the_leader_and_no_other(report: Report, tmp_path: Path) -> None:
    text = write_latex(report, tmp_path)[0].read_text()
    (model,) = report.models
    led = [lead for lead in model.leads if lead.leader is not None]
    assert {lead.leader for lead in led} == {LABEL}
    assert 0 < len(led) < len(model.leads)
    assert text.count(r"\textbf{") == len(led)
    for lead in led:
        mean = model.comparison.means[LABEL][lead.column.name].mean
        assert rf"\textbf{{{escaped(numbers.number(mean))}}}" in text


def test_no_bold_where_no_method_leads(tmp_path: Path) -> None:
    from report_runs import Method, write_run

    methods = [Method(name, name, 0.0, signed=False, random=False) for name in ("a", "b")]
    written = write_run(tmp_path, methods=methods)
    report = contents(open_run(written.path))
    assert not [lead for lead in report.models[0].leads if lead.leader]
    assert r"\textbf" not in "".join(path.read_text() for path in write_latex(report, tmp_path))


def test_two_models_have_files_of_their_own(report: Report, tmp_path: Path) -> None:
    two = replace(report, models=[report.models[0], replace(report.models[0], model="other")])
    names = [path.name for path in write_latex(two, tmp_path)]
    assert names[:2] == ["means-1-small-quick.tex", "differences-1-small-quick.tex"]
    assert "means-2-other.tex" in names
    labels = re.findall(r"\\label\{(.*?)\}", "".join((tmp_path / name).read_text() for name in names))
    assert len(labels) == len(set(labels))


@pytest.mark.slow
def test_it_compiles(report: Report, tmp_path: Path) -> None:
    program = shutil.which("pdflatex") or shutil.which("tectonic")
    if program is None:
        pytest.skip("no pdflatex and no tectonic in PATH")
    write_latex(report, tmp_path)
    options = ["-interaction=nonstopmode", "-halt-on-error"] if program.endswith("pdflatex") else []
    done = subprocess.run([program, *options, PREVIEW], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]

"""The commands, queries and snippets of the documents, and which of them no test runs.

A fenced block has the language after its fence. A command is a line of a `console` or `sh` block; a line that ends
in a backslash goes on in the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md") for path in ROOT.glob(pattern))
SHELL = ("console", "sh")
EXECUTABLE = (*SHELL, "python", "sql")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# What no test of the documents runs: (page, its beginning) -> why. A page `*` is any; a beginning "" is all of it.
NOT_RUN = {
    ("*", "pip install"): "it installs packages; `make install` does so for every test run",
    ("*", "make "): "`.ci/run` calls make; a test in a test would call itself",
    ("*", "ssig demo"): "`make demo` runs it, and so does tests/jobs/test_cli.py, with a small network",
    ("*", "ssig browse"): "it serves pages until Ctrl-C; tests/pipeline/browse/test_browser.py drives it",
    ("*", "ssig submit"): "it needs a cluster; tests/jobs/commands/test_submit.py starts one",
    (
        "*",
        "docker ",
    ): "it needs an engine; tests/deploy/test_dockerfile.py checks the file that it builds",
    (
        "docs/cluster.md",
        "",
    ): "it needs a cluster; the pages of each kind of cluster have these commands, and their tests",
    ("docs/how-to/cluster/kuberay.md", ""): "it needs a Kubernetes; tests/deploy/test_kuberay.py checks the manifests",
    (
        "docs/how-to/cluster/machines.md",
        "",
    ): "it needs a cloud; tests/test_cluster_yaml.py checks its file",
    (
        "docs/how-to/cluster/shared.md",
        "",
    ): "it needs a cluster; tests/jobs/commands/test_submit.py runs such jobs",
    ("docs/how-to/cluster/slurm.md", ""): "it needs a Slurm; tests/deploy/test_slurm.py runs the script in one",
    ("*", "ssig paper"): "it takes minutes; tests/jobs/commands/test_paper.py runs it small",
    ("CONTRIBUTING.md", "sed "): "tests/test_readme.py runs it on a copy",
    ("docs/how-to/own-data.md", ""): "tests/jobs/test_own_data.py runs each of its commands",
    ("docs/how-to/export.md", ""): "tests/jobs/test_export.py runs its commands and all but FiftyOne's snippet",
    ("docs/how-to/watching.md", ""): "it goes on until a run is done; tests/jobs/commands/test_watch.py watches one",
    ("docs/how-to/compare.md", ""): "tests/jobs/test_compare.py runs each of its commands",
    ("docs/how-to/browse.md", ""): "conditions for a filter; tests/pipeline/browse tests such ones",
    ("docs/results.md", ""): "shortened, and hours of work: it says where numbers come from",
    ("docs/statistics.md", ""): "minutes of simulation; tests/pipeline/report/test_statistics_simulation.py is small",
    ("examples/my-method/README.md", ""): "needs an installed package; tests/pipeline/driver/test_foreign.py has one",
    ("docs/run-format.md", "spark."): "Spark needs Java",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: path of the page in the repository.
        language: as written after the fence.
        text: what is in it.
    """

    page: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell's block, each on one line and without its comment."""
        lines = self.text.replace("\\\n", " ").splitlines()
        commands = [re.split(r"\s+# ", line)[0].strip() for line in lines if not line.startswith("#")]
        return [part.strip() for command in commands if command for part in command.split("&&")]

    @property
    def units(self) -> list[str]:
        """What is run or not run as one: a command, a query, a snippet; of `run-format.md`, a line."""
        if self.language in SHELL:
            return self.commands
        return self.text.splitlines() if self.page == "docs/run-format.md" else [self.text]


def blocks(*pages: Path) -> list[Block]:
    """The executable blocks of pages, by default of all, in order."""
    found = [
        Block(page.relative_to(ROOT).as_posix(), language, text)
        for page in pages or PAGES
        for language, text in _FENCE.findall(page.read_text(encoding="utf-8"))
    ]
    return [block for block in found if block.language in EXECUTABLE]


def shell_commands(page: Path) -> list[str]:
    """The commands of a page, in order."""
    return [command for block in blocks(page) if block.language in SHELL for command in block.commands]


def reason(page: str, unit: str) -> str | None:
    """Why a unit of a page is not run; None if it is to be run."""
    return next(
        (why for (where, start), why in NOT_RUN.items() if where in ("*", page) and unit.startswith(start)), None
    )


def to_run(page: str) -> list[tuple[str, str]]:
    """(language, unit) of all of a page that is to be run, in order."""
    return [
        (block.language, unit) for block in blocks(ROOT / page) for unit in block.units if reason(page, unit) is None
    ]


def inline_commands(page: Path) -> list[str]:
    """The commands `ssig …` that stand within sentences and tables."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"(?<!`)`(ssig [^`\n]+)`(?!`)", text)

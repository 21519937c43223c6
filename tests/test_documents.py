"""Commands in the documents exist, with the options that are typed; nothing is left unrun without a reason."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from document_folders import RUN  # noqa: E402
from documents import NOT_RUN, PAGES, SHELL, blocks, inline_commands, reason  # noqa: E402

from jobs.cli import app  # noqa: E402

SSIG: Any = typer.main.get_command(app)


def problem(command: str) -> str | None:
    """What is wrong with a command line of ssig: an unknown command or option; None if nothing is."""
    words = shlex.split(command)[1:]
    node, path = SSIG, "ssig"
    while words and hasattr(node, "commands") and not words[0].startswith("-"):
        if words[0] not in node.commands:
            return None if re.search(r"[A-Z|…]", words[0]) else f"no command {path} {words[0]}"
        path, node, words = f"{path} {words[0]}", node.commands[words[0]], words[1:]
    options = {name for parameter in node.params for name in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"--help", "-h", "--version", "--install-completion", "--show-completion"}
    typed = [word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)]
    return next((f"{path} has no option {word}" for word in typed if word not in options), None)


# The changelog also names commands of the past.
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_every_command_exists_with_its_options(page: Path) -> None:
    shell = [command for block in blocks(page) if block.language in SHELL for command in block.commands]
    commands = [command for command in shell if command.startswith("ssig ")] + inline_commands(page)
    assert [found for found in map(problem, commands) if found] == []


def test_a_planted_command_is_found() -> None:
    assert problem("ssig attribut --shards x") == "no command ssig attribut"
    assert problem("ssig attribute --shard x") == "ssig attribute has no option --shard"
    assert problem("ssig bench engine --network NETWORK") is None


def test_each_command_query_and_snippet_is_run_or_has_a_reason() -> None:
    unrun = [
        (block.page, unit)
        for block in blocks()
        for unit in block.units
        if reason(block.page, unit) is None and block.page not in RUN
    ]
    assert unrun == []


def test_each_reason_is_needed() -> None:
    units = [(block.page, unit) for block in blocks() for unit in block.units]
    for page, start in NOT_RUN:
        assert any(page in ("*", where) and unit.startswith(start) for where, unit in units), (page, start)
    assert set(RUN) <= {page for page, _ in units}


def test_no_document_installs_ssig_from_an_index() -> None:
    pattern = re.compile(r"(?:pip3?|pipx|uv|conda)[ \w]* install(?: -\S+)* ssig\b")
    named = [page.name for page in PAGES if pattern.search(page.read_text(encoding="utf-8"))]
    assert named == ["faq.md"]  # which says: no

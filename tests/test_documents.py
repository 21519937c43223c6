"""Commands in the documents exist, with the options that are typed; nothing is left unrun without a reason."""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from ray.scripts.scripts import cli as ray_cli

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from document_folders import RUN  # noqa: E402
from documents import NOT_RUN, PAGES, SHELL, blocks, inline_commands, reason  # noqa: E402

from jobs.cli import app  # noqa: E402
from pipeline.job.configuration import Job, load_job  # noqa: E402
from pipeline.storage.object_client import Patience  # noqa: E402

PROGRAMS: dict[str, Any] = {"ssig": typer.main.get_command(app), "ray": ray_cli}


def started(command: str) -> list[str]:
    """The commands of ssig and of Ray in a line of a shell: by themselves, or behind a program that starts them."""
    before, _, after = command.partition(" -- ")
    if after and not after.startswith(tuple(f"{program} " for program in PROGRAMS)):
        after = f"ssig {after}"  # the arguments of an image, whose entry point is ssig
    before = re.sub(r"^docker run .*?/ssig:\w+ ", "ssig ", before)
    before = re.sub(r"^(sbatch|srun) .*?(ssig\.sbatch|ssig) ", "ssig ", before)
    before = re.sub(r"^(\w+=\S+ )+", "", before)
    return [part for part in (before, after) if part.startswith(tuple(f"{program} " for program in PROGRAMS))]


def problem(command: str) -> str | None:
    """What is wrong with a command line of ssig or Ray: an unknown command or option; None if nothing is."""
    path, *words = shlex.split(command)
    node = PROGRAMS[path]
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
    commands = [part for command in shell for part in started(command)] + inline_commands(page)
    assert [found for found in map(problem, commands) if found] == []


def test_a_planted_command_is_found() -> None:
    assert problem("ssig attribut --shards x") == "no command ssig attribut"
    assert problem("ssig attribute --shard x") == "ssig attribute has no option --shard"
    assert problem("ssig bench engine --network NETWORK") is None
    assert problem("ray job submit --adress x") == "ray job submit has no option --adress"


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("RAY_AUTH_MODE=token ray job submit -v -- ssig audit RUN", ["ray job submit -v", "ssig audit RUN"]),
        ("kubectl run ssig-audit --image=x/ssig:gpu -- audit RUN", ["ssig audit RUN"]),
        ("kubectl exec $head -- ray job stop x", ["ray job stop x"]),
        ("docker run --rm registry.example/ssig:gpu methods", ["ssig methods"]),
        ("docker build --tag registry.example/ssig:gpu .", []),
        ("sbatch --nodes=4 deploy/slurm/ssig.sbatch audit RUN", ["ssig audit RUN"]),
        ("srun --gpus=1 ssig plan job.yaml", ["ssig plan job.yaml"]),
        ("kubectl get rayjob ssig --watch", []),
    ],
)
def test_commands_are_found_behind_the_programs_that_start_them(line: str, parts: list[str]) -> None:
    assert started(line) == parts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_key_of_a_job_is_one(page: Path) -> None:
    for indented in re.findall(r"^ *```yaml\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        given = yaml.safe_load(textwrap.dedent(indented))
        if isinstance(given, dict) and given.keys() & Job.model_fields.keys():
            needed = {"dataset": {"shards": ["a.tar"]}, "metrics": ["insertion"], "output": {"path": "run"}}
            load_job(None, {**needed, **given})


def test_every_variable_of_a_page_is_read_somewhere() -> None:
    places = [path for name in ("ssig", "pipeline", "jobs", "tests") for path in (ROOT / name).rglob("*.py")]
    places += [ROOT / "Makefile", *(ROOT / "deploy").rglob("ssig*")]
    known = {word for path in places if path.is_file() for word in re.findall(r"SSIG_[A-Z_]+", path.read_text())}
    known |= {Patience.variable(field.name) for field in fields(Patience)}
    named = {word for page in PAGES for word in re.findall(r"SSIG_[A-Z_]+[A-Z]\b", page.read_text())}
    assert sorted(named - known) == []


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

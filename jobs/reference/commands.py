"""The page of the commands, from the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from jobs.cli import app
from jobs.reference.markdown import code, page, plain, table


def commands() -> str:
    """The page of the commands."""
    root: Any = typer.main.get_command(app)
    listed = list(_commands(root, "ssig"))
    overview = table(
        ("command", "does"),
        ((f"[`{name}`](#{name.replace(' ', '-')})", plain(_paragraphs(command)[0])) for name, command in listed),
    )
    return page(
        "Commands",
        "`jobs/cli.py` and `jobs/commands/`",
        "`ssig COMMAND --help` prints the same, `ssig --version` the version. `ssig --install-completion` sets up "
        "completion in the shell. A command ends with one of these [exit codes](exit-codes.md).",
        overview,
        *(_command(name, command) for name, command in listed),
    )


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _command(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    rows = [
        (code(_typed(parameter)), plain(_default(parameter)), plain(parameter.help or ""))
        for parameter in command.params
    ]
    parts = [f"## {name}", *map(plain, _paragraphs(command)), f"```text\n{usage}\n```"]
    return "\n\n".join([*parts, table(("option", "default", "what it sets"), rows)] if rows else parts)


def _paragraphs(command: Any) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")]


def _typed(parameter: Any) -> str:
    """An argument or an option as it is typed."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper()).strip("[]")
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.metavar or 'VALUE'}"


def _default(parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        return "needed"
    if getattr(parameter, "is_flag", False):
        return (parameter.opts[0] if default else "") if parameter.secondary_opts else ""
    return "" if default is None else f"`{default}`"

"""Errors for command lines that typer refuses: what, where, what is allowed and what to type."""

from __future__ import annotations

import copy
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup
from typer.exceptions import TyperException

from ssig.errors import NOTHING, SsigError, UsageError
from ssig.options import in_words


class StoppedError(SsigError):
    """A command that was interrupted before it could say what became of its work."""


class Group(TyperGroup):
    """A group of commands that suggests the nearest name for an unknown one. Without a command it shows the help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands under the names of their groups, in the order in which they were added."""
        groups: dict[str, list[tuple[str, Any]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                title = getattr(command, "rich_help_panel", None)
                groups.setdefault(title if isinstance(title, str) else "Commands", []).append((name, command))
        widest = max((len(name) for commands in groups.values() for name, _ in commands), default=0)
        for title, commands in groups.items():
            with formatter.section(title):
                rows = [
                    (name.ljust(widest), command.get_short_help_str(formatter.width - 6 - widest))
                    for name, command in commands
                ]
                formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # typer would exit without a word
            raise StoppedError("interrupted; to go on, type the same command again") from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = [command_name for command_name, command in self.commands.items() if not command.hidden]
            raise UsageError("command", name, f"the commands that `{ctx.command_path} --help` lists", known=known)
        return super().resolve_command(ctx, args)


def refused(error: TyperException) -> UsageError:
    """The error for a command line that typer refused. Its kind is read from the name: the classes are private."""
    kind, context, param = type(error).__name__, getattr(error, "ctx", None), getattr(error, "param", None)
    command = context.command_path if context is not None else "ssig"
    if kind == "NoSuchOption":
        name = str(getattr(error, "option_name", ""))
        allowed = f"the options that `{command} --help` lists"
        return UsageError(command, name, allowed, known=_options(context))
    if kind == "MissingParameter" and param is not None:
        typed = f"type `{command} {_typed(param)}`"
        return UsageError(_name(param), NOTHING, f"{_sentence(param.help)}; {typed}")
    if kind == "BadParameter" and param is not None:
        return UsageError(_name(param), _input(error), _allowed(param))
    if kind == "BadOptionUsage":
        name = str(getattr(error, "option_name", ""))
        if "does not take" in error.message:
            return UsageError(name, "a value", f"no value: type `{name}` alone")
        return UsageError(name, NOTHING, f"a value: type `{name} VALUE`; `--help` says which")
    extra = re.search(r" \((.*)\)$", error.message, re.DOTALL)
    if extra is None:
        return UsageError(command, "a wrong command line", f"what `{command} --help` shows")
    quotes = "; put a pattern in quotes, or the shell replaces it by the files that match: 'FOLDER/*.tar'"
    allowed = f"what the first lines of `{command} --help` show" + (quotes if "--shards" in _options(context) else "")
    return UsageError(command, extra[1], allowed)


@contextmanager
def named_as_typed(options: Mapping[str, str]) -> Iterator[None]:
    """Makes errors name options instead of fields: ``--limit`` in place of ``dataset.limit``.

    Args:
        options: field -> option, for the options that the user gave.
    """
    try:
        yield
    except UsageError as error:
        field = next((field for field in options if f"{error.field}.".startswith(f"{field}.")), None)
        if field is None:
            raise
        renamed = copy.copy(error)
        renamed.field = options[field] + _choice(error.field.split(".")[1:] if field in ("methods", "metrics") else [])
        renamed.args = (renamed.field + str(error).removeprefix(error.field),)
        raise renamed from None


def _choice(parts: Sequence[str]) -> str:
    """An option of a method or metric as the user types it, such as `` ssig:samples``; empty for other fields."""
    return f" {parts[0]}:{parts[1]}" if len(parts) == 2 else ""


def _names(param: Any) -> list[str]:
    return [*param.opts, *param.secondary_opts]


def _options(context: Any) -> list[str]:
    if context is None:
        return []
    return [name for param in context.command.get_params(context) for name in _names(param) if name.startswith("-")]


def _name(param: Any) -> str:
    """A parameter as in the usage line: the option, or the metavar of an argument."""
    return str(param.opts[0] if param.param_type_name == "option" else param.metavar or param.name.upper())


def _typed(param: Any) -> str:
    value = param.metavar or "VALUE"
    return f"{param.opts[0]} {value}" if param.param_type_name == "option" else str(value)


def _sentence(text: str | None) -> str:
    """A help text without its full stop, for use within a sentence."""
    text = (text or "a value").rstrip(".")
    return text[0].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _input(error: TyperException) -> object:
    """The refused value, from the error of pydantic."""
    cause = error.__cause__
    problems = cause.errors() if cause is not None and hasattr(cause, "errors") else []
    return problems[0]["input"] if problems else "a value that cannot be read"


def _allowed(param: Any) -> str:
    descriptor = param.type_descriptor
    kinds = [descriptor.annotation, *typing.get_args(descriptor.annotation)]
    kind = next((kind.__name__ for kind in (int, float, bool) if kind in kinds), "str")
    info = descriptor.parameter_info
    return in_words([kind], (), info.min, None, info.max)

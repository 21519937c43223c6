"""The page of the job file, from the models that check it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.commands.printing import text
from jobs.reference.markdown import code, page, plain, table
from pipeline.job.configuration import Job
from pipeline.job.wrong_values import allowed_in, models_of

EXAMPLE = Path(__file__).resolve().parents[2] / "job.example.yaml"


def job_file() -> str:
    """The page of the job file."""
    top = [(name, field) for name, field in Job.model_fields.items() if not _section(field)]
    return page(
        "Job file",
        "`pipeline/job/configuration.py` and `job.example.yaml`",
        "A job file is YAML 1.2: labels are taken as typed, and a key that is given twice is refused. `ssig init` "
        "writes one to begin with. Relative paths start from the folder of the file. Any field can be given on the "
        "command line, where it overrides the file: `--set unit_size=32`, `--set actors.max=4`. A required field has "
        "no default.",
        _fields("", top),
        *_sections(Job, ""),
        "## A whole file",
        f"```yaml\n{EXAMPLE.read_text(encoding='utf-8').rstrip()}\n```",
    )


def _sections(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is None:
            continue
        path = f"{prefix}{name}"
        said = [plain(inspect.cleandoc(section.__doc__ or "").splitlines()[0])]
        plain_fields = [(key, inner) for key, inner in section.model_fields.items() if not _section(inner)]
        yield "\n\n".join([f"## {path}", *said, _fields(f"{path}.", plain_fields)])
        yield from _sections(section, f"{path}.")


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that has fields of its own; None for a value or a list."""
    return next(iter(models_of(field.annotation)), None)


def _fields(prefix: str, fields: list[tuple[str, FieldInfo]]) -> str:
    rows = [
        (
            code(f"{prefix}{name}"),
            "required" if field.is_required() else code(_default(field)),
            plain(allowed_in(field.annotation, field.metadata)),
            plain(field.description or ""),
        )
        for name, field in fields
    ]
    return table(("field", "default", "allowed", "what it sets"), rows)


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value == () and "not empty" in allowed_in(field.annotation, field.metadata):
        return ""
    if isinstance(value, tuple):
        return f"[{', '.join(getattr(item, 'name', str(item)) for item in value)}]"
    return text(value)

"""The pages of short lists: tables of a run, environment variables, exit codes."""

from __future__ import annotations

from dataclasses import fields

import pyarrow as pa

from jobs.reference.environment import VARIABLES
from jobs.reference.markdown import code, page, plain, table
from pipeline.run.schema import attributions_schema, descriptions, metrics_schema
from pipeline.shards.manifest_table import MANIFEST
from pipeline.shards.samples import Status
from pipeline.storage.object_client import Patience
from ssig.errors import EXIT_CODES


def tables() -> str:
    """The columns of the Parquet tables of a run."""
    maps = attributions_schema((3, 224, 224), "float16", channels=True)
    return page(
        "Columns of the tables",
        "`pipeline/run/schema.py`, `pipeline/shards/manifest_table.py` and `pipeline/shards/samples.py`",
        "A run has three kinds of Parquet tables. [Run format](../run-format.md) says where the files lie; "
        "[Audit a run](../how-to/audit.md) has queries. Each column also says what it holds in its field metadata, "
        "under `description`.",
        "## metrics",
        "One row for each sample under each method, in `metrics/`. The labels `model` and `method` come from the "
        "folders' names. Tables of evaluations have the same columns.",
        _columns(metrics_schema([])),
        "Then, for each metric, its columns, as [Metrics](metrics.md) lists them, and `seconds_METRIC`: the seconds "
        "that it took for the image.",
        "## attributions",
        "One row for each sample under each method, in `attributions/`. `values` and `values_scale` are there with "
        "`output.channels: true`; with `output.maps: none` there are no maps.",
        _columns(maps),
        "## manifest",
        "One row for each expected sample, in `manifest.parquet`.",
        _columns(MANIFEST),
        "## Statuses",
        "A row whose `status` is not `ok` has an `error` and no numbers.",
        table(("status", "means"), ((code(status), plain(status.meaning)) for status in Status)),
    )


def _columns(schema: pa.Schema) -> str:
    texts = descriptions(schema)
    rows = []
    for field in schema:
        kind = str(field.type).removeprefix("extension<arrow.").split("[")[0].split("<struct")[0]
        rows.append((code(field.name), plain(kind), plain(texts[field.name])))
    return table(("column", "type", "holds"), rows)


def environment() -> str:
    """The environment variables."""
    parts = []
    for group, variables in VARIABLES.items():
        rows = [(code(variable.name), plain(variable.default), plain(variable.doc)) for variable in variables]
        if group == "Object stores":
            rows += [
                (code(Patience.variable(bound.name)), code(bound.default), plain(bound.metadata["doc"]))
                for bound in fields(Patience)
            ]
        parts += [f"## {group}", table(("variable", "default", "what it does"), rows)]
    return page(
        "Environment variables",
        "`jobs/reference/environment.py` and `pipeline/storage/object_client.py`",
        "Options and job files decide what a job computes. These variables decide how it works on a machine.",
        *parts,
    )


def exit_codes() -> str:
    """The exit codes of the commands."""
    return page(
        "Exit codes",
        "`ssig/errors.py`",
        table(("code", "means"), ((str(number), plain(meaning)) for number, meaning in EXIT_CODES.items())),
        "`ssig submit` ends with the exit code of its job.",
    )

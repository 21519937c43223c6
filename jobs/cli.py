"""The command line `ssig …`: parses, calls the pipeline, prints, and sets the exit code.

    0  done                 2  wrong use: nothing was computed      130  interrupted, can be resumed
    1  could not finish     3  finished, some samples failed

Each command imports what it needs when it runs, so that `--help` and wrong use answer at once.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from jobs.bench.app import app as bench
from jobs.commands.paper import paper
from jobs.commands.printing import print_json, print_table
from jobs.commands.wrong_use import Group, named_as_typed, refused
from jobs.surroundings import prepare
from ssig import __version__
from ssig.errors import NOTHING, ModelError, SsigError, UsageError, told

if TYPE_CHECKING:
    from pipeline.driver.ending import Summary
    from pipeline.job.configuration import Job

DONE, UNFINISHED, USAGE, INTERRUPTED = 0, 1, 2, 130
TRACEBACK = "SSIG_TRACEBACK"
DEMO_METHODS = ("ssig", "ssig-signed", "ig", "smoothgrad", "gradient")

app = typer.Typer(
    name="ssig",
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run directory: a path, s3:// or gs://.")]
JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="Job file.")]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"ssig {__version__}")
        raise typer.Exit


@app.callback()
def ssig(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Explain what an image classifier looks at, for a whole dataset."""


def main() -> None:
    """Runs the command line; every error that is no fault of the program is one line."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(INTERRUPTED))
    prepare()
    try:
        code = app(sys.argv[1:], prog_name="ssig", standalone_mode=False)
    except TyperException as error:
        code = _complain(refused(error), USAGE)
    except SsigError as error:
        code = _complain(error, _exit_code(error))
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        code = UNFINISHED
    except OSError as error:
        code = _complain(error, UNFINISHED)
    except Exception as error:
        if TRACEBACK in os.environ:
            raise
        code = _complain(f"unexpected {told(error)} (set {TRACEBACK}=1 to see where)", UNFINISHED)
    sys.exit(code or DONE)


def _complain(problem: object, code: int) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return code


def _exit_code(error: SsigError) -> int:
    if isinstance(error, (UsageError, ModelError)):
        return USAGE
    from pipeline.run.lease import LeaseHeldError  # these import torch
    from pipeline.run.records import RefusedError

    return USAGE if isinstance(error, (RefusedError, LeaseHeldError)) else UNFINISHED


@app.command()
def demo(out: Annotated[str, typer.Option(metavar="FOLDER", help="Run directory.")] = "runs/demo") -> int:
    """Run a small job on bundled photographs."""
    from pipeline.job.configuration import load_job
    from pipeline.shards.photographs import write_photographs

    overrides = {
        "dataset.shards": [str(write_photographs(Path(out).expanduser().parent / "photographs"))],
        "model.target": "predicted",
        "methods": list(DEMO_METHODS),
        "metrics": ["insertion", "deletion", "insertion_deletion_gap", "diffid", "roc_auc", "pointing", "energy"],
        "output.path": out,
        "unit_size": 2,  # so that eight photographs keep a few cores busy
    }
    return _attribute(load_job(None, overrides))


# Fields of a job that an option of `ssig attribute` gives.
_OPTIONS = {
    "dataset.shards": "--shards",
    "dataset.limit": "--limit",
    "model.name": "--model",
    "model.weights": "--weights",
    "model.precision": "--precision",
    "model.score": "--score",
    "model.target": "--target",
    "methods": "--method",
    "metrics": "--metric",
    "output.path": "--out",
    "seed": "--seed",
}


@app.command()
def attribute(
    job: Annotated[Path | None, typer.Argument(metavar="JOB.yaml", help="Job file; options override it.")] = None,
    shards: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Shards: paths or URLs, with braces or wildcards. Repeat for several."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Use the first N images only.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Network: timm:NAME, torchvision:NAME or module:callable.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="NAME", help="Weights: a name, 'random', or a checkpoint file.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Precision of the network: fp32, tf32, fp16 or bf16.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(metavar="NAME", help="Score to explain: logit, log-probability or probability.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Class to explain: label, predicted, or a class number.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Method: NAME or NAME:option=value,…,label=LABEL. Repeat for several; see ssig methods.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Metric: NAME or NAME:option=value,… Repeat for several; see ssig metrics."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Run directory to write: a path, s3:// or gs://.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Random seed.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of a job file, such as actors.max=4."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed images again.")] = False,
) -> int:
    """Run a job, or resume one that was stopped."""
    from pipeline.job.configuration import load_job

    given: dict[str, Any] = {
        "dataset.shards": shards,
        "dataset.limit": limit,
        "model.name": model,
        "model.weights": weights,
        "model.precision": precision,
        "model.score": score,
        "model.target": None if target is None else scalar("--target", target),
        "methods": method and [choice("--method", text) for text in method],
        "metrics": metric and [choice("--metric", text) for text in metric],
        "output.path": out,
        "seed": seed,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    typed_options = {name: _OPTIONS[name] for name in overrides}
    overrides |= dict(assignment(text) for text in field or [])
    if job is None:
        _require_options(overrides)
    with named_as_typed({**typed_options, **_kinds(overrides, job)}):
        return _attribute(load_job(job, overrides), retry_failed=retry_failed)


def _require_options(overrides: Mapping[str, Any]) -> None:
    """Refuses a job without a file that lacks what every job needs."""
    for field, allowed in (
        ("dataset.shards", "shards with images (type --shards PATTERN, or name a job file)"),
        ("output.path", "a folder for the results (type --out FOLDER, or name a job file)"),
    ):
        if not {field, field.partition(".")[0]} & overrides.keys():
            raise UsageError(_OPTIONS[field], NOTHING, allowed)


def _kinds(overrides: Mapping[str, Any], job: Path | None) -> dict[str, str]:
    """The options that give methods and metrics, whose errors name `method` or `metric`, where no file gives them."""
    return {kind: f"--{kind}" for kind in ("method", "metric") if job is None or f"{kind}s" in overrides}


def _attribute(job: Job, *, retry_failed: bool = False) -> int:
    from jobs.commands.progress import Display
    from pipeline.driver.attribute import attribute as run_job
    from pipeline.run.trust import import_from_here
    from ssig.models.sources import runs_code

    if runs_code(job.model.name):
        import_from_here(job.output.path, job.model.name)
    with Display() as display:
        summary = run_job(job, display, retry_failed=retry_failed)
    return _conclude(summary)


def _conclude(summary: Summary) -> int:
    """Tells how a job ended, and gives the exit code."""
    print(f"{summary.units_to_do} units to do, {summary.units_done} done")
    for label, statuses in summary.statuses.items():
        print(f"  {label}: {summary.expected} samples expected, {_counts(statuses)}")
    for unit, reason in summary.given_up.items():
        print(f"  unit {unit} is left undone: {reason}")
    for note in summary.notes:
        print(f"  {note}")
    if summary.shard_faults:
        print(f"  {summary.shard_faults} faults in shards; see {summary.run}/quarantine")
    if summary.report is not None:
        print(f"report: {summary.report}")
    return summary.exit_code


@app.command()
def report(
    run: Run,
    reference: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Compare the other methods with this one.")
    ] = None,
) -> int:
    """Write the report of a run again."""
    from pipeline.report import build_report

    print(f"report: {build_report(run, reference)}")
    return DONE


@app.command()
def status(run: Run, as_json: AsJson = False) -> int:
    """Show the progress of a run."""
    from pipeline.checks.status import status as state_of

    state = state_of(run)
    if as_json:
        return print_json({**asdict(state), "finished": state.finished})
    rows = [
        (
            label.model,
            label.method if label.evaluation is None else f"{label.method} (evaluation {label.evaluation})",
            f"{label.units_done}/{label.units}",
            _counts(label.statuses),
        )
        for label in state.labels
    ]
    print_table(("model", "method", "units", "rows"), rows)
    driver = f"; driver: {state.driver}" if state.driver else ""
    print(f"{state.run}: {state.expected} samples; in quarantine: {state.quarantined}{driver}")
    return DONE


@app.command()
def audit(
    run: Run,
    repair: Annotated[bool, typer.Option("--repair", help="Remove unreferenced files and damaged results.")] = False,
    as_json: AsJson = False,
) -> int:
    """Check that every image has exactly one result.

    Only files are read. The exit code is 1 if a result is missing, doubled or damaged.
    """
    from pipeline.checks.audit import audit as examine
    from pipeline.checks.repair import repair as mend

    mended = mend(run) if repair else None
    result = examine(run) if mended is None else mended.audit
    sound = result.ok if mended is None else mended.sound
    if as_json:
        record = {**asdict(result), "problems": result.problems, "ok": result.ok}
        if mended is not None:
            record = {**record, "done": mended.done, "left": mended.left, "sound": mended.sound}
        print_json(record)
        return DONE if sound else UNFINISHED
    for label, statuses in result.statuses.items():
        print(f"{label}: {result.expected} expected = {_counts(statuses)}")
    if mended is None:
        print(*result.problems, "sound" if sound else f"{len(result.problems)} problems", sep="\n")
    else:
        last = "sound" if sound else "not whole yet: run its command again, then audit it"
        print(*mended.done, *mended.left, last, sep="\n")
    return DONE if sound else UNFINISHED


@app.command()
def pack(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC", help="Folder with one folder of images per class, or with the ILSVRC validation images."
        ),
    ],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Folder to write the shards to.")],
    shard_size: Annotated[int, typer.Option(metavar="N", help="Images per shard.")] = 1000,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="LOC_val_solution.csv: classes and boxes of the ILSVRC images.")
    ] = None,
    synsets: Annotated[
        Path | None, typer.Option(metavar="FILE", help="LOC_synset_mapping.txt: the order of the ILSVRC classes.")
    ] = None,
) -> int:
    """Pack a folder of images into WebDataset shards."""
    from pipeline.shards.pack import pack as pack_images

    print(*pack_images(source, os.path.expanduser(out), shard_size=shard_size, csv=csv, synsets=synsets), sep="\n")
    return DONE


@app.command()
def submit(
    job: JobFile,
    address: Annotated[str, typer.Option(metavar="URL", help="Dashboard of the cluster.")] = "http://127.0.0.1:8265",
    follow: Annotated[bool, typer.Option(help="Print the log until the job ends.")] = True,
    working_dir: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Folder on the cluster that relative paths of the job start from."),
    ] = None,
    num_cpus: Annotated[float | None, typer.Option(metavar="N", help="CPU cores to reserve for the driver.")] = None,
) -> int:
    """Run a job on a Ray cluster and print its log.

    The exit code is that of the job.
    """
    from jobs.commands.submit import submit as send

    return send(job, address, follow=follow, working_dir=working_dir, entrypoint_num_cpus=num_cpus)


@app.command()
def evaluate(
    run: Run,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Metric: NAME or NAME:option=value,… Repeat for several; see ssig metrics."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Evaluate only the method with this label. Repeat for several."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Label of the model, if the run has several.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of this evaluation (default: its metrics).")
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:CALLABLE", help="Allow importing this model code from someone else's run. The code runs."
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any field of actors, such as actors.max=4."),
    ] = None,
) -> int:
    """Add metrics to a finished run, or resume adding them."""
    from jobs.commands.progress import Display
    from pipeline.job.configuration import load_evaluation

    if not metric:
        raise UsageError("--metric", NOTHING, "a metric (type --metric NAME; `ssig metrics` lists them)")
    given: dict[str, Any] = {
        "metrics": [choice("--metric", text) for text in metric],
        "methods": method,
        "model": model,
        "name": name,
        "trust": trust,
        **dict(assignment(text) for text in field or []),
    }
    given = {name: value for name, value in given.items() if value is not None}
    options = {field: f"--{field.rstrip('s')}" for field in ("methods", "metrics", "metric", "model", "name")}
    with named_as_typed(options):
        job = load_evaluation(given)
        from pipeline.driver.added_metrics import add_metrics  # imports torch

        with Display() as display:
            return _conclude(add_metrics(run, job, display))


Named = Annotated[str | None, typer.Argument(metavar="NAME", help="Show this one with its options.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")]


@app.command()
def methods(name: Named = None, as_json: AsJson = False, markdown: AsMarkdown = False) -> int:
    """List the methods, or show the options of one."""
    from jobs.commands.listing import METHODS, show

    return show(METHODS, name, as_json, markdown)


@app.command()
def metrics(name: Named = None, as_json: AsJson = False, markdown: AsMarkdown = False) -> int:
    """List the metrics, or show the options of one."""
    from jobs.commands.listing import METRICS, show

    return show(METRICS, name, as_json, markdown)


app.command()(paper)
app.command("argument", hidden=True)(paper)  # its name until version 0.1
app.add_typer(bench, name="bench")


def choice(option: str, text: str) -> dict[str, Any]:
    """A method or metric from the command line: ``NAME`` or ``NAME:option=value,…``, values as in YAML."""
    name, colon, given = text.partition(":")
    starts = list(re.finditer(r"(?:^|,)\s*([\w-]+)=", given))
    ends = [*(start.start() for start in starts[1:]), len(given)]
    values: dict[str, Any] = {}
    for start, end in zip(starts, ends, strict=False):
        field, value = start[1], given[start.end() : end]
        # An option without a value, or given twice, is a slip.
        if field in ("name", *values) or not value.strip():
            raise UsageError(option, text, "NAME, or NAME:option=value,option=value, each option once")
        values[field] = typed(option, field, value, text)
    if not name or bool(colon) != bool(starts) or (starts and starts[0].start()):
        raise UsageError(option, text, "NAME, or NAME:option=value,option=value")
    return {"name": name, **values}


def assignment(text: str) -> tuple[str, Any]:
    """``actors.max=4`` as a dotted field and its value, as in YAML."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError("--set", text, "FIELD=VALUE, such as actors.max=4")
    return name, typed("--set", name, value, text)


def typed(option: str, field: str, value: str, given: str) -> Any:
    """The value of a field: a label is the text as it was typed, quotes aside."""
    from pipeline.job.configuration import TEXTS

    if field.rpartition(".")[2] in TEXTS and not value.strip().startswith(("'", '"')):
        return value.strip()
    return scalar(option, value, given)


def scalar(option: str, value: str, given: str | None = None) -> Any:
    """A value of the command line, as YAML reads it."""
    from pipeline.storage import yaml12

    try:
        return yaml12.load(value)
    except yaml12.YAMLError as error:
        raise UsageError(option, given or value, f"a value as in YAML ({' '.join(str(error).split())})") from None


def _counts(statuses: Mapping[str, int]) -> str:
    return " + ".join(f"{count} {name}" for name, count in statuses.items()) or "0"

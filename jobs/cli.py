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
from jobs.commands.paper import argument
from jobs.commands.printing import print_json, print_table
from jobs.surroundings import prepare
from ssig.errors import DONE, INTERRUPTED, UNFINISHED, USAGE, ModelError, SsigError, UsageError, told

if TYPE_CHECKING:
    from pipeline.driver.ending import Summary
    from pipeline.job.configuration import Job

TRACEBACK = "SSIG_TRACEBACK"
DEMO_METHODS = ("ssig", "ssig-signed", "ig", "smoothgrad", "gradient")

app = typer.Typer(
    name="ssig",
    help="Suppression attribution of whole image datasets.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")
app.command()(argument)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's directory, s3:// or gs://.")]
JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")]


def main() -> None:
    """Runs the command line; every error that is no fault of the program is one line."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(INTERRUPTED))
    prepare()
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="ssig", standalone_mode=False)
    except TyperException as error:
        code = _complain(error.format_message(), error.exit_code)
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
    from pipeline.run.lease import LeaseHeldError
    from pipeline.run.records import RefusedError

    return USAGE if isinstance(error, (UsageError, ModelError, RefusedError, LeaseHeldError)) else UNFINISHED


@app.command()
def demo(out: Annotated[str, typer.Option(help="Run directory.")] = "runs/demo") -> int:
    """Attribute the bundled photographs with a pretrained network and write a report."""
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


@app.command()
def attribute(
    job: Annotated[Path | None, typer.Argument(metavar="JOB.yaml", help="The job file; options go on top.")] = None,
    shards: Annotated[list[str] | None, typer.Option(help="Shards: paths or URLs, brace and glob patterns.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first n samples.")] = None,
    model: Annotated[str | None, typer.Option(help="timm:NAME, torchvision:NAME, module:callable, …")] = None,
    weights: Annotated[str | None, typer.Option(help="Weights by name, 'random', or a checkpoint file.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, tf32, fp16 or bf16.")] = None,
    score: Annotated[str | None, typer.Option(help="logit, log-probability or probability.")] = None,
    target: Annotated[str | None, typer.Option(help="label, predicted, or the number of a class.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="NAME or NAME:option=value,…,label=…")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="NAME or NAME:option=value,…")] = None,
    out: Annotated[str | None, typer.Option(help="Run directory: a path, s3:// or gs://.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all random draws.")] = None,
    field: Annotated[list[str] | None, typer.Option("--set", help="Any other field: actors.max=4")] = None,
    retry_failed: Annotated[bool, typer.Option(help="Do units that hold failed rows again.")] = False,
) -> int:
    """Run a job, or go on with it where it was stopped."""
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
        **dict(assignment(text) for text in field or []),
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    return _attribute(load_job(job, overrides), retry_failed=retry_failed)


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
    """Write the evaluation report of a run from its files."""
    from pipeline.report import build_report

    print(f"report: {build_report(run, reference)}")
    return DONE


@app.command()
def status(run: Run, as_json: AsJson = False) -> int:
    """Tell how far a run is."""
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
    repair: Annotated[bool, typer.Option("--repair", help="Remove orphans, and the units that are damaged.")] = False,
    as_json: AsJson = False,
) -> int:
    """Prove from the files alone that every expected sample has exactly one row; exit 1 if not."""
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
    source: Annotated[Path, typer.Argument(metavar="SRC", help="ImageFolder tree, or the ILSVRC validation images.")],
    out: Annotated[str, typer.Option(help="Where the shards go.")],
    shard_size: Annotated[int, typer.Option(help="Samples per shard.")] = 1000,
    csv: Annotated[Path | None, typer.Option(help="LOC_val_solution.csv, for ILSVRC validation images.")] = None,
    synsets: Annotated[Path | None, typer.Option(help="LOC_synset_mapping.txt: numbers of the classes.")] = None,
) -> int:
    """Pack a folder of images into WebDataset shards with classes and boxes."""
    from pipeline.shards.pack import pack as pack_images

    print(*pack_images(source, os.path.expanduser(out), shard_size=shard_size, csv=csv, synsets=synsets), sep="\n")
    return DONE


@app.command()
def submit(
    job: JobFile,
    address: Annotated[str, typer.Option(help="The cluster's dashboard.")] = "http://127.0.0.1:8265",
    follow: Annotated[bool, typer.Option(help="Print the log until the job ends.")] = True,
    working_dir: Annotated[
        str | None, typer.Option(help="Folder on the cluster that the job's relative paths resolve against.")
    ] = None,
    num_cpus: Annotated[float | None, typer.Option(help="Cores to reserve for the driver.")] = None,
) -> int:
    """Run a job on a Ray cluster, follow its log and pass its exit code on."""
    from jobs.commands.submit import submit as send

    return send(job, address, follow=follow, working_dir=working_dir, entrypoint_num_cpus=num_cpus)


@app.command()
def evaluate(
    run: Run,
    metric: Annotated[list[str] | None, typer.Option(help="NAME or NAME:option=value,…")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only methods of these labels.")] = None,
    model: Annotated[str | None, typer.Option(help="Label of the model, where the run has several.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the evaluation; by default its metrics.")] = None,
    trust: Annotated[
        str | None, typer.Option(help="The module:callable of a run that is not yours; it is imported and run.")
    ] = None,
    field: Annotated[list[str] | None, typer.Option("--set", help="Any field of the actors: actors.max=4")] = None,
) -> int:
    """Add metrics to a run from its stored maps, or go on with it."""
    from jobs.commands.progress import Display
    from pipeline.driver.added_metrics import add_metrics
    from pipeline.job.configuration import load_evaluation

    given: dict[str, Any] = {
        "metrics": [choice("--metric", text) for text in metric or []],
        "methods": method,
        "model": model,
        "name": name,
        "trust": trust,
        **dict(assignment(text) for text in field or []),
    }
    job = load_evaluation({name: value for name, value in given.items() if value is not None})
    with Display() as display:
        return _conclude(add_metrics(run, job, display))


Named = Annotated[str | None, typer.Argument(metavar="NAME", help="Show one, with its options.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")]


@app.command()
def methods(name: Named = None, as_json: AsJson = False, markdown: AsMarkdown = False) -> int:
    """List the methods: equation, gradient evaluations per image, completeness, paper, options."""
    from jobs.commands.listing import METHODS, show

    return show(METHODS, name, as_json, markdown)


@app.command()
def metrics(name: Named = None, as_json: AsJson = False, markdown: AsMarkdown = False) -> int:
    """List the metrics: definition, direction, range, forward evaluations per map, options."""
    from jobs.commands.listing import METRICS, show

    return show(METRICS, name, as_json, markdown)


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

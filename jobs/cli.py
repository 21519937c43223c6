"""The command line `ssig …`: parses, calls the pipeline, prints, and sets the exit code.

    0  done                 2  wrong use: nothing was computed      130  interrupted, can be resumed
    1  could not finish     3  finished, some samples failed

Each command imports what it needs when it runs, so that `--help` and wrong use answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from jobs.bench.app import app as bench
from jobs.commands.attribute import Run, attribute, demo, evaluate
from jobs.commands.paper import paper
from jobs.commands.printing import counts, print_json, print_table
from jobs.commands.wrong_use import Group, refused
from jobs.surroundings import prepare
from ssig import __version__
from ssig.errors import DONE, INTERRUPTED, UNFINISHED, USAGE, ModelError, SsigError, UsageError, told

TRACEBACK = "SSIG_TRACEBACK"

app = typer.Typer(
    name="ssig",
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="Job file.")]


def _print_version(requested: bool) -> None:
    if requested:
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
    """Runs the command line. Every error that the user can mend is one line."""
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
    except BrokenPipeError:  # the reader of the output closed it
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


app.command()(demo)
app.command()(attribute)
app.command()(evaluate)


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
            counts(label.statuses),
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

    It only reads files, unless --repair is given. The exit code is 1 if a result is missing, doubled or damaged.
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
        print(f"{label}: {result.expected} expected = {counts(statuses)}")
    if mended is None:
        print(*result.problems, "sound" if sound else f"{len(result.problems)} problems", sep="\n")
    else:
        last = "sound" if sound else "incomplete: run the job again, then `ssig audit`"
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


Named = Annotated[str | None, typer.Argument(metavar="NAME", help="Show only this entry, with its options.")]
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

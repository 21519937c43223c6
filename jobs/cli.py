"""The command line `ssig …`: parses, calls the pipeline, prints, and sets the exit code (`ssig.errors.EXIT_CODES`).

Each command imports what it needs when it runs, so that `--help` and wrong use answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from typer.exceptions import TyperException

from jobs.bench.app import app as bench
from jobs.commands import completion
from jobs.commands.attribute import Run, attribute, demo, evaluate
from jobs.commands.browse import browse
from jobs.commands.compact import compact
from jobs.commands.compare import compare
from jobs.commands.export import export
from jobs.commands.index import index
from jobs.commands.init import init
from jobs.commands.pack import pack
from jobs.commands.paper import paper
from jobs.commands.plan import plan
from jobs.commands.printing import counts, print_json, print_table
from jobs.commands.submitting import submit
from jobs.commands.wrong_use import Group, StoppedError, refused
from jobs.surroundings import prepare
from ssig.errors import DONE, INTERRUPTED, UNFINISHED, USAGE, ModelError, SsigError, UsageError, one_line

TRACEBACK = "SSIG_TRACEBACK"

app = typer.Typer(
    name="ssig",
    cls=Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _print_version(requested: bool) -> None:
    if requested:
        from ssig import __version__

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
        code = _complain(_of_system(error), UNFINISHED)
    except Exception as error:
        if TRACEBACK in os.environ:
            raise
        code = _complain(f"unexpected {one_line(error)} (set {TRACEBACK}=1 to see where)", UNFINISHED)
    if code == INTERRUPTED and "ray" in sys.modules:
        # Ray's own end crashes the process if Ray was interrupted while it started.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code or DONE)


def _of_system(error: OSError) -> str:
    """What the system refused: the file first, without the number of the error."""
    if error.filename is None or not error.strerror:
        return str(error)
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' and '.join(files)}: {error.strerror}"


def _complain(problem: object, code: int) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return code


def _exit_code(error: SsigError) -> int:
    if isinstance(error, StoppedError):
        return INTERRUPTED
    if isinstance(error, (UsageError, ModelError)):
        return USAGE
    from pipeline.run.lease import LeaseHeldError  # these import torch
    from pipeline.run.records import RefusedError

    return USAGE if isinstance(error, (RefusedError, LeaseHeldError)) else UNFINISHED


START, LOOK, LIST, MORE = "Start here", "Look at a run", "List", "More"

app.command(rich_help_panel=START)(demo)
app.command(rich_help_panel=START)(init)
app.command(rich_help_panel=START)(attribute)
app.command(rich_help_panel=START)(plan)


@app.command(rich_help_panel=LOOK)
def report(
    run: Run,
    reference: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Compare the other methods with this one.")
    ] = None,
) -> int:
    """Write the report of a run again."""
    from jobs.commands.ending import link, report_of
    from jobs.commands.leaderboard import verdicts
    from pipeline.run.presence import require_run

    require_run(run)
    from pipeline.report import build_report  # imports torch

    page = build_report(run, reference)
    print(*verdicts(report_of(run)), f"report: {link(page)}", sep="\n")
    return DONE


app.command(rich_help_panel=LOOK)(browse)
app.command(rich_help_panel=LOOK)(compare)
app.command(rich_help_panel=LOOK)(export)


@app.command(rich_help_panel=LOOK)
def status(
    run: Run,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until the run is done.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, metavar="SECONDS", help="Pause of --watch.")] = 5.0,
) -> int:
    """Show the progress of a run."""
    from pipeline.run.presence import require_run

    require_run(run)
    if watch:
        from jobs.commands.watch import watch as watched

        return watched(run, every, as_json)
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
    if state.unsealed is not None:
        print(state.unsealed)
    return DONE


@app.command(rich_help_panel=LOOK)
def audit(
    run: Run,
    repair: Annotated[bool, typer.Option("--repair", help="Remove unreferenced files and damaged results.")] = False,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, metavar="N", help="Examine N random units, and bound the share of damage."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the choice of --sample.")] = 0,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="Examine by tasks on this Ray cluster; auto: that of RAY_ADDRESS or this machine.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check that every image has exactly one result.

    It only reads files, unless --repair is given. The exit code is 1 if a result is missing, doubled or damaged.
    """
    from pipeline.run.presence import require_run

    require_run(run)
    if repair and sample is not None:
        raise UsageError("sample", sample, "no --repair beside it: a repair looks at every unit")
    from jobs.commands.auditing import audited  # imports torch

    result, mended = audited(run, repair, None if sample is None else (sample, seed), address)
    sound = result.ok if mended is None else mended.sound
    if as_json:
        record = {**asdict(result), "problems": result.problems, "ok": result.ok}
        if mended is not None:
            record = {**record, "done": mended.done, "left": mended.left, "sound": mended.sound}
        print_json(record)
        return DONE if sound else UNFINISHED
    for label, statuses in result.statuses.items():
        shown = f"{result.expected} expected" if result.sample is None else "examined"
        print(f"{label}: {shown} = {counts(statuses)}")
    if result.sample is not None:
        print(result.sample.sentence)
    if mended is None:
        print(*result.problems, "sound" if sound else f"{len(result.problems)} problems", sep="\n")
    else:
        last = "sound" if sound else "incomplete: run the job again, then `ssig audit`"
        print(*mended.done, *mended.left, last, sep="\n")
    return DONE if sound else UNFINISHED


app.command(rich_help_panel=LOOK)(evaluate)


_SHOW_ONE = "Show only this entry, with its options."
Method = Annotated[str | None, typer.Argument(metavar="NAME", autocompletion=completion.methods, help=_SHOW_ONE)]
Metric = Annotated[str | None, typer.Argument(metavar="NAME", autocompletion=completion.metrics, help=_SHOW_ONE)]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")]


@app.command(rich_help_panel=LIST)
def methods(name: Method = None, as_json: AsJson = False, markdown: AsMarkdown = False) -> int:
    """List the methods, or show the options of one."""
    from jobs.commands.listing import METHODS, show

    return show(METHODS, name, as_json, markdown)


@app.command(rich_help_panel=LIST)
def metrics(name: Metric = None, as_json: AsJson = False, markdown: AsMarkdown = False) -> int:
    """List the metrics, or show the options of one."""
    from jobs.commands.listing import METRICS, show

    return show(METRICS, name, as_json, markdown)


app.command(rich_help_panel=MORE)(pack)
app.command(rich_help_panel=MORE)(compact)
app.command(rich_help_panel=MORE)(index)


app.command(rich_help_panel=MORE)(submit)
app.command(rich_help_panel=MORE)(paper)
app.command("argument", hidden=True)(paper)  # its name until version 0.1
app.add_typer(bench, name="bench", rich_help_panel=MORE)

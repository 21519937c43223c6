"""`ssig browse`: runs as local web pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssig.errors import DONE, UsageError


def browse(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN [RUN ...]", help="Run directories: paths, s3:// or gs://.")
    ],
    port: Annotated[int, typer.Option(metavar="N", help="Port on 127.0.0.1; 0 takes any that is free.")] = 8642,
    cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for the index (default: ~/.cache/ssig/browse).")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the web browser.")] = False,
) -> int:
    """Look through the samples and maps of runs in a web browser.

    The pages are for this machine alone. The printed address holds a token; Ctrl-C ends the server.
    """
    from pipeline.run.presence import require_run

    for run in runs:
        require_run(run)
    try:
        from pipeline.browse.server import served
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        wanted = "an installation with starlette and uvicorn; type, in the source folder: pip install '.[browse]'"
        raise UsageError("browse", f"no package {error.name}", wanted) from None
    from pipeline.browse.index import cache_folder

    folder = cache_folder() if cache is None else cache.expanduser()
    with served(runs, folder, port) as server:
        seconds = server.index.seconds
        built = "found" if seconds is None else f"built in {seconds:.1f} s"
        print(f"index: {built} ({server.index.path})")
        print(f"browse: {server.address}", flush=True)
        if open_page:
            import webbrowser

            webbrowser.open(server.address)
        try:
            server.run()
        except KeyboardInterrupt:
            print("ended")
    return DONE

"""`python -m jobs.study [plan|run|figures]`, which `make study` calls."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from jobs.study.page import DATA_FOLDER, FIRST_PAGE, PAGE_FOLDER, write
from pipeline.shards.changes import TRUST
from ssig.errors import SsigError, UsageError


def main() -> int:
    """Plans or measures the study, or makes its page."""
    parser = argparse.ArgumentParser(prog="python -m jobs.study", description="Measure the study and make its page.")
    parser.add_argument("what", nargs="?", default="run", choices=("plan", "run", "figures"))
    parser.add_argument("--shards", default=os.environ.get("SSIG_DEV_SHARDS", "../shared/imagenet"), metavar="FOLDER")
    parser.add_argument("--weights", default=os.environ.get("STUDY_WEIGHTS", "../shared/weights"), metavar="FOLDER")
    parser.add_argument("--runs", type=Path, default=Path("runs/study"), metavar="FOLDER")
    parser.add_argument("--data", type=Path, default=DATA_FOLDER, metavar="FOLDER")
    parser.add_argument("--page", type=Path, default=PAGE_FOLDER, metavar="FOLDER")
    parser.add_argument("--only", metavar="TEXT", help="only blocks whose NETWORK/NAME holds this text")
    parser.add_argument(
        TRUST,
        dest="trusted",
        action="store_true",
        help="go on with blocks that were stopped though the shards were copied anew, if their sizes are the same "
        "(make study STUDY='run --trust-shards')",
    )
    given = parser.parse_args()
    try:
        return _do(given)
    except SsigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _do(given: argparse.Namespace) -> int:
    if given.what == "figures":
        first = FIRST_PAGE if given.page == PAGE_FOLDER else None
        print(*write(given.data, given.page, first), sep="\n")
        return 0
    from jobs.study.design import Design
    from jobs.study.plan import text
    from jobs.study.run import Places, run_blocks

    weights = Path(given.weights).resolve()
    shards = sorted(map(str, Path(given.shards).resolve().glob("*.tar")))
    design = Design()
    places = Places(
        given.data, given.runs, tuple(shards), weights if weights.is_dir() else None, trusted=given.trusted
    )
    if given.only:
        looks, blocks = (
            tuple(block for block in some if given.only in f"{block.network}/{block.name}")
            for some in (design.looks, design.blocks)
        )
        if not (looks or blocks):
            raise UsageError("--only", given.only, "a part of NETWORK/NAME of a block (`plan` lists both)")
        design = Design(looks=looks, blocks=blocks)
    if given.what == "plan":
        print(text(design, places))
        return 0
    if not shards:
        raise UsageError("--shards", given.shards, "a folder of shards (type --shards FOLDER or set SSIG_DEV_SHARDS)")
    return 1 if run_blocks(design, places, say=lambda line: print(line, flush=True)) else 0


if __name__ == "__main__":
    sys.exit(main())

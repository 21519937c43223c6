"""What the documents tell a person to type does what they say: run on tiny data, with a tiny network.

Networks, numbers of images and shards are replaced by small ones; Ray by one process. The options stay.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from command_line import Cli, command_line  # noqa: E402
from document_folders import RUN, two_runs  # noqa: E402
from documents import SHELL, blocks, to_run  # noqa: E402
from PIL import Image  # noqa: E402

# Pages that take a few seconds.
QUICK = ("docs/quickstart.md", "docs/how-to/audit.md", "docs/how-to/own-method.md")
LOCAL = ("--set", "actors.executor=local", "--set", "actors.micro_batch=4")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path
    for name in ("mine", "mynet"):
        sys.modules.pop(name, None)


def small(command: str) -> list[str]:
    """The words of a command `ssig …` with a small network and few shards."""
    words = shlex.split(command.replace("{000000..000049}", "000000"))[1:]
    if words[0] in ("attribute", "plan"):
        words = ["networks:tiny" if word == "torchvision:resnet50" else word for word in words]
        words += LOCAL if "--model" in words else (*LOCAL, "--model", "networks:tiny")
    if words[0] == "plan":
        words += ["--probe-seconds", "0.1"]
    return words + list(LOCAL) if words[0] == "evaluate" else words


def namespace(page: str, folder: Path) -> dict[str, Any]:
    """What a page's snippets suppose to be there."""
    if page == "docs/how-to/library.md":
        return {"image": Image.open(folder / "cat.jpg")}
    if page == "docs/how-to/own-network.md":
        import torch

        return {"torch": torch, "net": torch.nn.Linear(2, 2)}
    if page == "docs/how-to/own-method.md":
        import networks
        import torch

        return {"model": networks.tiny(), "image": torch.rand(1, 3, 32, 32), "targets": [1]}
    if page == "docs/run-format.md":
        import duckdb
        import pandas
        import polars
        import pyarrow.dataset
        import pyarrow.parquet

        libraries = {"duckdb": duckdb, "pandas": pandas, "polars": polars, "pyarrow": pyarrow}
        return {**libraries, "FILE": next((folder / "runs" / "demo" / "metrics").glob("**/*.parquet"))}
    return {}


@pytest.mark.parametrize("page", [pytest.param(page, marks=() if page in QUICK else pytest.mark.slow) for page in RUN])
def test_everything_on_the_page_runs(page: str, cli: Cli, folder: Path) -> None:
    import duckdb

    RUN[page](folder)
    names, database = namespace(page, folder), duckdb.connect()
    for language, unit in to_run(page):
        if language in SHELL:
            assert unit.startswith("ssig "), unit
            done = cli(*small(unit))
            assert done.code == 0, (unit, done.err, done.out)
        elif language == "sql":
            answer = database.sql(unit)
            assert answer is None or answer.columns, unit
        else:
            text = unit.replace("RUN/", "runs/demo/") if page == "docs/run-format.md" else unit
            exec(compile(text, page, "exec"), names)


@pytest.mark.slow
def test_queries_find_what_they_are_for(folder: Path) -> None:
    """The numbers of a few queries of the cookbook, against the same from the rows."""
    import duckdb
    import pandas

    two_runs(folder)
    queries = [block.text for block in blocks(ROOT / "docs" / "how-to" / "audit.md") if block.language == "sql"]
    database = duckdb.connect()
    database.sql(queries[0])
    rows = pandas.read_parquet("runs/demo/metrics")
    means = database.sql(queries[1]).df().set_index("method")["images"]
    assert means.to_dict() == {"ssig": 6, "ig": 6, "random": 6}
    (paired,) = [query for query in queries if query.startswith("SELECT avg(a.insertion")]
    wide = rows.astype({"method": str}).pivot(index="key", columns="method", values="insertion")
    difference, error, images = database.sql(paired).fetchall()[0]
    assert images == 6
    assert difference == pytest.approx((wide["ssig"] - wide["ig"]).mean(), abs=1e-5)
    assert error == pytest.approx((wide["ssig"] - wide["ig"]).sem(), abs=1e-5)
    (missing,) = [query for query in queries if "ANTI JOIN" in query]
    assert database.sql(missing).fetchall() == []
    next(Path("runs/demo/metrics/").glob("**/method=ssig/*.parquet")).unlink()
    database.sql(f"CREATE OR REPLACE {queries[0].strip().removeprefix('CREATE')}")
    assert len(database.sql(missing).fetchall()) == 6

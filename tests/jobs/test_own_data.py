"""Every command of the page about images of one's own does what the page says."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from command_line import Cli, command_line  # noqa: E402
from documents import shell_commands  # noqa: E402
from PIL import Image  # noqa: E402
from tests_shards import jpeg  # noqa: E402

COMMANDS = [command.removeprefix("ssig ") for command in shell_commands(ROOT / "docs" / "how-to" / "own-data.md")]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return command_line(monkeypatch, capsys)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the page names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, name in enumerate(("birds/owl/1", "birds/tit/2", "photos/a/1", "photos/a/2")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(number))
    (tmp_path / "labels.csv").write_text("file,class\na/1.jpg,owl\na/2.jpg,tit\n")
    listing = [{"id": 1, "file_name": "a/1.jpg"}]
    (tmp_path / "boxes.json").write_text(
        json.dumps({"images": listing, "annotations": [{"image_id": 1, "bbox": [8, 6, 20, 20]}]})
    )
    (tmp_path / "masks" / "a").mkdir(parents=True)
    Image.new("L", (48, 40), 255).save(tmp_path / "masks" / "a" / "2_mask.png")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([{"bytes": jpeg(1), "path": None}], kind), "label": [3]})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "train-0.parquet")
    (tmp_path / "mynet.py").write_text("from networks import tiny as network\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_page_runs(cli: Cli, folder: Path) -> None:
    assert len(COMMANDS) == 9
    for number, line in enumerate(COMMANDS):
        words = shlex.split(line.replace("s3://", "memory://").replace("--out shards", f"--out shards{number}"))
        if words[0] == "attribute":
            words += ["--set", "actors.executor=local", "--set", "actors.micro_batch=2"]
            words += ["--set", "methods=[gradient]"] if "--model" not in words else []
            words += ["--model", "networks:tiny"] if "--model" not in words else []
        # The page shows runs on the same photos one after another; each of them is a run of its own here.
        words = [word.replace("runs/photos", f"runs/{number}") for word in words]
        done = cli(*words)
        assert done.code == 0, (line, done.err, done.out)
    assert cli("audit", "runs/birds").code == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--images birds --shards x.tar", "--images: found .* together with shards.*leave one of them out"),
        ("--shards x.tar --labels labels.csv", "--labels: found .*only beside images"),
        ("--images nowhere", "--images: found .*nowhere.*a folder of images"),
        ("--images s3://bucket/birds", "--images: found .*a path on this machine"),
        ("--images photos --labels none.csv", "--labels: found .*none.csv"),
        ("--images photos --boxes none.json", "--boxes: found .*none.json"),
        ("--images photos --masks none", "--masks: found .*none"),
        ("--shards photos", "--images .*photos in place of --shards"),
        ("--limit 3", "--images DIR"),
    ],
)
def test_wrong_use_names_the_option_and_what_to_type(cli: Cli, folder: Path, line: str, message: str) -> None:
    done = cli("attribute", *shlex.split(line), "--out", "run")
    assert done.code == 2
    assert re.search(message, done.err.splitlines()[-1])
    assert not (folder / "run").exists()

"""What `ssig submit` sends and refuses, before any cluster is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ray.runtime_env import RuntimeEnv

from jobs.commands import submission as module
from jobs.commands.submission import Submission, bytes_of, variables
from ssig.errors import UsageError

JOB = {"dataset": {"shards": "/data/{0..3}.tar"}, "methods": ["ig"], "output": {"path": "s3://bucket/run"}}


def job_file(folder: Path, **changes: object) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({**JOB, **changes}))
    return path


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder of code with what should not travel."""
    folder = tmp_path / "code"
    files = (
        *("mine.py", "data/part.npy", "tools/a.py", "tools/__pycache__/a.pyc", ".git/HEAD", ".venv/lib/x.py"),
        *("runs/a/run.json", ".env", ".gitignore"),
    )
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def sent(submission: Submission, folder: Path) -> list[str]:
    folder.mkdir()
    submission.write(folder)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_travels_without_what_is_excluded(code: Path, tmp_path: Path) -> None:
    submission = Submission(job_file(tmp_path), upload=code, exclude=("*.npy", "runs/a"))
    assert submission.check() == []
    assert sent(submission, tmp_path / "out") == ["job.yaml", "mine.py", "tools/a.py"]


def test_a_folder_that_is_too_large_names_its_largest_files(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 2_000_000)
    (code / "net.pt").write_bytes(b"0" * 3_000_000)
    with pytest.raises(UsageError, match=r"net\.pt \(3 MB\)") as caught:
        Submission(job_file(tmp_path), upload=code).check()
    assert "--exclude '*.pt'" in caught.value.allowed
    Submission(job_file(tmp_path), upload=code, exclude=("*.pt",)).check()


def test_a_file_named_as_the_job_is_refused_and_the_job_itself_is_not(code: Path, tmp_path: Path) -> None:
    inside = job_file(code)
    Submission(inside, upload=code).check()
    with pytest.raises(UsageError, match=r"without job\.yaml"):
        Submission(job_file(tmp_path), upload=code).check()


def test_a_module_beside_the_job_must_be_sent(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code)
    mine = job_file(tmp_path, model={"name": "mine:network"})
    with pytest.raises(UsageError, match="--upload") as caught:
        Submission(mine).check()
    assert caught.value.field == "model.name"
    assert Submission(mine, upload=code).check() == []
    theirs = Submission(job_file(tmp_path, model={"name": "elsewhere.nets:network"}))
    assert theirs.check() == [
        "elsewhere.nets:network: the module elsewhere must be installed on the cluster; it is not sent"
    ]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("--submission-id", {"submission_id": "two words"}),
        ("--env", {"env": {"A B": "1"}}),
        ("--pip", {"pip": ("./mine",)}),
        ("--pip", {"pip": ("absent.txt",)}),
        ("--pip", {"pip": ("einops",), "image": "me/ssig"}),
        ("--upload", {"upload": Path("/nowhere")}),
        ("--upload", {"upload": Path("/tmp"), "image": "me/ssig"}),
    ],
)
def test_what_cannot_be_sent_is_refused(field: str, changes: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Submission(job_file(tmp_path), **changes).check()  # type: ignore[arg-type]
    assert caught.value.field == field


def test_ray_accepts_what_is_asked_of_it(tmp_path: Path) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text("# of the network\neinops==0.8.1\n\n")
    submission = Submission(
        job_file(tmp_path),
        pip=(str(listed), "timm>=1"),
        env={"HF_HOME": "/mnt/hf"},
        metadata={"team": "vision"},
        num_cpus=2,
        memory=bytes_of("--memory", "4GB"),
    )
    submission.check()
    request = submission.request(tmp_path)
    assert request["entrypoint"] == "ssig attribute job.yaml"
    assert request["runtime_env"]["pip"] == ["einops==0.8.1", "timm>=1"]
    assert request["runtime_env"]["env_vars"] == {"HF_HOME": "/mnt/hf"}
    assert (request["entrypoint_num_cpus"], request["entrypoint_memory"]) == (2, 4_000_000_000)
    RuntimeEnv(**request["runtime_env"])  # type: ignore[no-untyped-call]
    in_an_image = Submission(job_file(tmp_path), image="me/ssig:1", env={"A": "1"}).request(tmp_path)
    RuntimeEnv(**in_an_image["runtime_env"])  # type: ignore[no-untyped-call]
    assert "ssig attribute job.yaml" in in_an_image["entrypoint"]


def test_an_output_path_that_each_node_has_for_itself_is_refused(tmp_path: Path) -> None:
    own = Submission(job_file(tmp_path, output={"path": "/tmp/run"}))
    assert own.on_nodes(1) is None
    with pytest.raises(UsageError, match="all 3 nodes share") as caught:
        own.on_nodes(3)
    assert caught.value.field == "output.path"
    shared = Submission(job_file(tmp_path, output={"path": "/mnt/run"}))
    assert shared.on_nodes(3) == "output.path /mnt/run must be on a disk that all 3 nodes share"
    assert Submission(job_file(tmp_path)).on_nodes(3) is None


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 * 10**9), ("512MiB", 512 * 2**20), ("1000", 1000), ("1.5 g", 1_500_000_000)]
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of("--memory", text) == size


@pytest.mark.parametrize("text", ["much", "0", "4XB", "-1"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 4GB"):
        bytes_of("--memory", text)


def test_variables() -> None:
    assert variables("--env", ["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    with pytest.raises(UsageError, match="NAME=VALUE"):
        variables("--metadata", ["team"])

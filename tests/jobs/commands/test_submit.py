"""`ssig submit` against a real head: a Ray of its own, behind a token, that runs tiny commands in place of the job."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient, JobType

from jobs.commands.submission import Submission
from jobs.commands.submit import exit_code, submit
from jobs.commands.upload import job_for_cluster
from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run
from ssig.errors import UsageError

TOKEN = "0123456789abcdef" * 4
START_SECONDS, STOP_SECONDS, JOB_SECONDS = 60, 15, 60
JOB = {"dataset": {"shards": "/data/{0..3}.tar"}, "methods": ["ig"], "output": {"path": "s3://bucket/run"}}
ROOT = Path(__file__).resolve().parents[3]
JOINS = """
import os, ray
from pipeline.driver.ray_cluster import cluster
with cluster() as joined:
    assert ray.get_runtime_context().gcs_address == os.environ["RAY_ADDRESS"]
    assert len(joined.nodes) == 1
"""


@dataclass(frozen=True)
class Head:
    """A running head: the address of its dashboard, on loopback."""

    address: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(address: str) -> bool:
    """Whether a dashboard is up; without the token, a refusal is the answer."""
    try:
        urllib.request.urlopen(f"{address}/api/version", timeout=5)
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    raise AssertionError("the head answers without a token")


def marked(mark: str) -> list[int]:
    """Processes whose environment holds a mark: those of one head, never another Ray on the machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def stop(process: subprocess.Popen[bytes], mark: str) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    for leftover in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(leftover, signal.SIGKILL)
    process.wait(STOP_SECONDS)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # Not under pytest's folder: a socket's path has at most 107 characters.
    folder = tempfile.mkdtemp(prefix="ssig-ray-")
    mark = f"SSIG_TEST_HEAD={folder}"
    address = f"http://127.0.0.1:{free_port()}"
    options = {
        "node-ip-address": "127.0.0.1",
        "port": 0,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": address.rpartition(":")[2],
        "dashboard-agent-listen-port": free_port(),
        "min-worker-port": 0,
        "max-worker-port": 0,
        "num-cpus": 1,
        "num-gpus": 0,
        "object-store-memory": 80_000_000,
        "include-log-monitor": "false",
        "temp-dir": folder,
    }
    ray = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
    command = [sys.executable, "-c", ray, "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**outer, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "SSIG_TEST_HEAD": folder}
    log = Path(folder) / "head.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Head(address)
    finally:
        stop(process, mark)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The right token, and nothing of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "my job.yaml"
    path.write_text(yaml.safe_dump(JOB))
    return path


@pytest.mark.ray
@pytest.mark.parametrize("code", [0, 3, 1])
def test_the_exit_code_is_passed_on_and_the_log_followed(
    code: int, head: Head, job_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = f"import sys; print('attributed', 6 * 7); print(open('my job.yaml').read()); sys.exit({code})"
    assert submit(Submission(job_file), head.address, entrypoint=f'{sys.executable} -c "{script}"') == code
    output = capfd.readouterr().out
    assert "attributed 42\n" in output
    assert "s3://bucket/run" in output


@pytest.mark.ray
def test_a_job_joins_the_cluster_that_it_was_submitted_to(head: Head, job_file: Path, tmp_path: Path) -> None:
    script = tmp_path / "joins.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + JOINS)
    assert submit(Submission(job_file), head.address, entrypoint=f"{sys.executable} {script}") == 0


@pytest.mark.ray
def test_a_finished_run_is_audited_and_compacted_by_jobs_of_the_cluster(
    head: Head, job_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What docs/how-to/cluster tells to type behind `ray job submit -- `."""
    plan = SyntheticRun(images=8, methods=["ig"], metrics=[], unit_size=4)
    run = write_synthetic_run(tmp_path, plan).root
    ssig = f"env PYTHONPATH={ROOT} {sys.executable} -m ssig"
    for command, said in (
        (f"compact {run}", "4 files of 2 tables became 2"),
        (f"audit {run} --address auto", "8 expected = 8 ok\nsound"),
    ):
        assert submit(Submission(job_file), head.address, entrypoint=f"{ssig} {command}") == 0, capfd.readouterr()
        assert said in capfd.readouterr().out


@pytest.mark.ray
def test_an_address_that_is_given_wins_over_the_environment(
    head: Head, job_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    assert submit(Submission(job_file), head.address, entrypoint="true", follow=False) == 0
    assert "ray job logs --follow" in capsys.readouterr().out
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:1"


@pytest.mark.ray
def test_what_is_sent_arrives_under_the_name_that_was_given(
    head: Head, job_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = tmp_path / "code"
    (code / "mine").mkdir(parents=True)
    (code / "mine" / "__init__.py").write_text("answer = 42")
    (code / "data.bin").write_bytes(b"0" * 1000)
    submission = Submission(
        job_file,
        submission_id="nightly-1",
        upload=code,
        exclude=("*.bin",),
        env={"GREETING": "good morning"},
        metadata={"team": "vision"},
    )
    script = "import mine, os; print(mine.answer, os.environ['GREETING'], sorted(os.listdir()))"
    assert submit(submission, head.address, entrypoint=f'{sys.executable} -c "{script}"') == 0
    assert "42 good morning ['mine', 'my job.yaml']" in capfd.readouterr().out
    client = JobSubmissionClient(head.address, headers={"Authorization": f"Bearer {TOKEN}"})
    assert client.get_job_info("nightly-1").metadata["team"] == "vision"
    with pytest.raises(UsageError, match="nightly-1") as caught:
        submit(submission, head.address, entrypoint="true")
    assert caught.value.field == "--submission-id"
    assert "ray job logs --follow" in caught.value.allowed


@pytest.mark.ray
def test_the_job_of_an_image_travels_as_a_variable(
    head: Head, job_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    request = Submission(job_file, image="ghcr.io/me/ssig:1").request(job_file.parent, "cat 'my job.yaml'")
    assert request["runtime_env"].pop("image_uri") == "ghcr.io/me/ssig:1"  # no container engine here
    assert "working_dir" not in request["runtime_env"]
    client = JobSubmissionClient(head.address, headers={"Authorization": f"Bearer {TOKEN}"})
    job = client.submit_job(**{**request, "metadata": {}})
    deadline = time.monotonic() + JOB_SECONDS
    while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "path: s3://bucket/run" in client.get_job_logs(job)


@pytest.mark.ray
def test_ctrl_c_leaves_the_job_running_and_says_how_to_stop_it(head: Head, job_file: Path) -> None:
    # A shell that runs the tests in the background has them ignore SIGINT, and their children inherit that.
    call = "import signal, sys; from pathlib import Path; from jobs.commands.submit import submit; "
    call += "from jobs.commands.submission import Submission; "
    call += "signal.signal(signal.SIGINT, signal.default_int_handler); "
    call += "sys.exit(submit(Submission(Path(sys.argv[1])), sys.argv[2], entrypoint='echo begun; sleep 300'))"
    follower = subprocess.Popen(
        [sys.executable, "-u", "-c", call, str(job_file), head.address],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert follower.stdout is not None
    try:
        for line in follower.stdout:
            if line.strip() == "begun":
                break
        follower.send_signal(signal.SIGINT)
        said, _ = follower.communicate(timeout=JOB_SECONDS)
    finally:
        follower.kill()
    assert follower.returncode == 130
    command = said[said.index("ray job stop") :].split()
    assert command[:5] == ["ray", "job", "stop", "--address", head.address]

    client = JobSubmissionClient(head.address, headers={"Authorization": f"Bearer {TOKEN}"})
    assert client.get_job_status(command[5]) == JobStatus.RUNNING
    client.stop_job(command[5])
    deadline = time.monotonic() + JOB_SECONDS
    while not (details := client.get_job_info(command[5])).status.is_terminal() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert exit_code(details) == 130


@pytest.mark.ray
@pytest.mark.parametrize(("token", "found"), [(None, "none"), ("f" * 64, "one that the cluster refuses")])
def test_a_missing_or_wrong_token_is_one_clear_line(
    token: str | None, found: str, head: Head, job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    if token is not None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    with pytest.raises(UsageError, match="RAY_AUTH_TOKEN") as caught:
        submit(Submission(job_file), head.address, entrypoint="true")
    assert (caught.value.field, caught.value.found) == ("token", found)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.ray
@pytest.mark.parametrize("place", ["named", "default"])
def test_a_token_is_found_where_ray_keeps_it(
    place: str, head: Head, job_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    path = tmp_path / (".ray/auth_token" if place == "default" else "token")
    path.parent.mkdir(exist_ok=True)
    path.write_text(TOKEN + "\n")
    if place == "named":
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert submit(Submission(job_file), head.address, entrypoint="true", follow=False) == 0


def test_a_token_file_that_is_named_must_exist(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(UsageError, match="RAY_AUTH_TOKEN_PATH"):
        submit(Submission(job_file), "http://127.0.0.1:1")


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "127.0.0.1:{port}", "http://", "http://a b"])
def test_an_address_without_a_cluster_is_one_clear_line(address: str, job_file: Path) -> None:
    with pytest.raises(UsageError) as caught:
        submit(Submission(job_file), address.format(port=free_port()))
    assert caught.value.field == "--address"
    assert "\n" not in str(caught.value)


def test_an_address_that_a_proxy_is_asked_for_names_the_proxy(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://somebody:secret@127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(UsageError) as caught:
        submit(Submission(job_file), "http://head.invalid:8265")
    assert "http_proxy" in caught.value.allowed
    assert "no_proxy=head.invalid" in caught.value.allowed
    assert "secret" not in str(caught.value)


def details(status: JobStatus, code: int | None) -> JobDetails:
    return JobDetails(
        type=JobType.SUBMISSION, status=status, entrypoint="ssig", message="no such image\nmore", driver_exit_code=code
    )


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 3, 3),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, -9, 137),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 130),
    ],
)
def test_exit_codes(status: JobStatus, code: int | None, expected: int) -> None:
    assert exit_code(details(status, code)) == expected


def written(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump({**JOB, **changes}))
    return path


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("dataset.shards", {"dataset": {"shards": ["/data/0.tar", "../shards/1.tar"]}}),
        ("output.path", {"output": {"path": "runs/a"}}),
        ("model.weights", {"model": {"name": "timm:resnet18", "weights": "net.pt"}}),
    ],
)
def test_relative_paths_are_refused_or_resolved_on_the_cluster(
    field: str, changes: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    path = written(tmp_path / "job.yaml", **changes)
    with pytest.raises(UsageError, match="--working-dir") as caught:
        job_for_cluster(path, None)
    assert caught.value.field == field
    section, name = field.split(".")
    given = changes[section][name]
    sent = yaml.safe_load(job_for_cluster(path, "/mnt/ssig/"))[section][name]
    expected = ["/data/0.tar", "/mnt/ssig/../shards/1.tar"] if isinstance(given, list) else f"/mnt/ssig/{given}"
    assert sent == expected


def test_a_job_of_urls_and_absolute_paths_travels_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "job.yaml", model={"name": "timm:resnet18", "weights": "random"}, seed=7)
    sent = yaml.safe_load(job_for_cluster(path, None))
    assert sent == {**yaml.safe_load(path.read_text()), "dataset": {"shards": ["/data/{0..3}.tar"]}}


def test_a_tilde_is_a_home_on_the_cluster(tmp_path: Path) -> None:
    path = written(tmp_path / "job.yaml", dataset={"shards": ["~/0.tar", "~1.tar"]}, output={"path": "~/run"})
    sent = yaml.safe_load(job_for_cluster(path, "~/ssig"))
    assert (sent["dataset"]["shards"], sent["output"]["path"]) == (["~/0.tar", "~/ssig/~1.tar"], "~/run")


def test_a_wrong_job_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no-such-method"):
        job_for_cluster(written(tmp_path / "job.yaml", methods=["no-such-method"]), None)
    with pytest.raises(UsageError, match="job file"):
        job_for_cluster(tmp_path / "absent.yaml", None)
    with pytest.raises(UsageError) as caught:
        job_for_cluster(written(tmp_path / "job.yaml"), "relative/folder")
    assert caught.value.field == "--working-dir"

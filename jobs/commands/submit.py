"""Submits a job to a cluster through Ray Jobs, follows its log and returns its exit code.

The cluster runs ``ssig attribute JOB.yaml`` on its head node, where the project is installed (`cluster.yaml`). The job
file and the Python files that it names are uploaded into a folder of Ray's session, which the cluster may delete. So
relative paths would find no shards and lose results: they are refused, or start from ``--working-dir``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from jobs.commands.submission import Submission
from ssig.errors import INTERRUPTED, SsigError, UsageError, message_line, one_line


class ClusterLostError(SsigError):
    """The cluster stopped answering. A submitted job may go on."""


def submit(submission: Submission, address: str, *, follow: bool = True, entrypoint: str | None = None) -> int:
    """Runs a job file on a cluster.

    Args:
        submission: the job, and what is sent with it.
        address: the cluster's dashboard, ``http://HOST:8265``.
        follow: print the job's log until it ends; otherwise return once it is submitted.
        entrypoint: command to run in place of ``ssig attribute JOB.yaml``.

    Returns:
        the exit code of the job; 130 if it was stopped or following it was interrupted; 0 if it was not followed.

    Raises:
        UsageError: a wrong job file, something that cannot be sent, an address where no cluster answers, a missing or
            wrong token, a name that another submission has.
        ClusterLostError: the cluster stopped answering.
    """
    notes = submission.check()
    token = _token()
    client = _connect(address, token)
    notes += _on_nodes(submission, client)
    for note in notes:
        print(f"note: {note}", flush=True)
    job = _send(submission, client, address, entrypoint)
    hint = _hint(job, address, authenticated=token is not None)
    print(f"submitted {job} to {address}", flush=True)
    if not follow:
        print(hint)
        return 0
    try:
        return exit_code(_follow(client, job))
    except KeyboardInterrupt:
        print(f"\nno longer following; the job goes on. {hint}", flush=True)
        return INTERRUPTED
    except (OSError, RuntimeError) as error:
        raise ClusterLostError(f"{address} no longer answers ({one_line(error)}); {job} may go on. {hint}") from error


def _send(submission: Submission, client: JobSubmissionClient, address: str, entrypoint: str | None) -> str:
    """Uploads and submits; the submission's name.

    Raises:
        UsageError: a runtime environment that Ray refuses, or a name that is taken.
        ClusterLostError: the cluster did not take the job.
    """
    with tempfile.TemporaryDirectory() as upload:
        submission.write(Path(upload))
        request = submission.request(Path(upload), entrypoint)
        try:
            return str(client.submit_job(**request))
        except (TypeError, ValueError) as error:
            raise UsageError("runtime environment", sorted(request["runtime_env"]), one_line(error)) from error
        except (OSError, RuntimeError) as error:
            if submission.submission_id is not None and "already exists" in str(error):
                taken = f"a name that no submission of {address} has; {_hint(submission.submission_id, address)}"
                raise UsageError("--submission-id", submission.submission_id, taken) from error
            raise ClusterLostError(f"{address} did not take the job ({one_line(error)})") from error


def _on_nodes(submission: Submission, client: JobSubmissionClient) -> list[str]:
    """What the cluster's nodes say of the job before it is sent; nothing where the cluster does not list them.

    Raises:
        UsageError: the output path is each node's own.
    """
    try:
        answer = client._do_request("GET", "/api/v0/nodes?limit=10000")  # Ray has no public call with our headers
        listed = answer.json()["data"]["result"]["result"]
        nodes = sum(node["state"] == "ALIVE" for node in listed)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return []
    note = submission.on_nodes(nodes)
    return [] if note is None else [note]


def exit_code(details: JobDetails) -> int:
    """The exit code of a job that has ended, as a shell would return it."""
    if details.status == JobStatus.STOPPED:
        return INTERRUPTED
    code: int | None = details.driver_exit_code
    if code is None:
        if details.status == JobStatus.SUCCEEDED:
            return 0
        print(f"error: the job did not run: {message_line(str(details.message))}", file=sys.stderr)
        return 1
    return 128 - code if code < 0 else code


def _token() -> str | None:
    """The cluster's token, from the places where Ray looks for it, in the same order.

    Ray's client sends it only if ``RAY_AUTH_MODE=token`` is set, which is easily forgotten on a laptop.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    try:
        return Path(named or "~/.ray/auth_token").expanduser().read_text(encoding="utf-8").strip() or None
    except OSError as error:
        if named:
            raise UsageError("RAY_AUTH_TOKEN_PATH", named, f"a file with the cluster's token ({error})") from None
        return None


def _connect(address: str, token: str | None) -> JobSubmissionClient:
    if not address.startswith(("http://", "https://")):
        raise UsageError("--address", address, "the dashboard of a cluster, such as http://127.0.0.1:8265")
    for handler in logging.getLogger("ray").handlers:
        handler.setLevel(logging.WARNING)  # Ray would print each upload and each closed connection
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with _unset("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            return JobSubmissionClient(address, headers=headers)
    except AuthenticationError:
        problem = "none" if token is None else "one that the cluster refuses"
        allowed = "the cluster's token, in RAY_AUTH_TOKEN, in the file RAY_AUTH_TOKEN_PATH, or in ~/.ray/auth_token"
        raise UsageError("token", problem, allowed) from None
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        allowed = (
            f"an address where the dashboard of a Ray cluster answers ({one_line(error)}){_through_proxy(address)}"
        )
        raise UsageError("--address", address, allowed) from None


def _through_proxy(address: str) -> str:
    """Says if requests to the address go through a proxy, which may not know the address."""
    url = urlsplit(address)
    proxy = getproxies().get(url.scheme)
    if proxy is None or url.hostname is None or proxy_bypass(url.hostname):
        return ""
    name, proxy_url = f"{url.scheme}_proxy", re.sub(r"//[^/@]*@", "//", proxy)
    return f"; the request went through the proxy {proxy_url} ({name}): set no_proxy={url.hostname} to bypass it"


@contextmanager
def _unset(*names: str) -> Iterator[None]:
    """Hides environment variables, which Ray would prefer to the address that the user gave."""
    saved: Mapping[str, str] = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


def _hint(job: str, address: str, *, authenticated: bool = True) -> str:
    ray = "RAY_AUTH_MODE=token ray job" if authenticated else "ray job"
    where = f"--address {shlex.quote(address)} {job}"
    return f"Follow it: {ray} logs --follow {where}  Stop it: {ray} stop {where}"


def _follow(client: JobSubmissionClient, job: str) -> JobDetails:
    """Prints the log of a job until it ends."""
    try:
        asyncio.run(_print_log(client, job))
    except Exception as error:  # of sockets, HTTP or Ray; the job's state decides, which is read below
        print(f"the log ended early ({one_line(error)}); waiting for the job", file=sys.stderr)
    while not (details := client.get_job_info(job)).status.is_terminal():
        time.sleep(0.5)
    return details


async def _print_log(client: JobSubmissionClient, job: str) -> None:
    async for text in client.tail_job_logs(job):
        print(text, end="", flush=True)

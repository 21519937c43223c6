"""The Ray cluster that a run works on: one that is named, or one of the command's own."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import ray
from ray._private import services, state, worker
from ray._private.grpc_utils import init_grpc_channel
from ray.exceptions import AuthenticationError
from ray.job_config import JobConfig

from pipeline.driver.own_ray import RayStartError, prepared
from ssig.errors import INTERRUPTED, UsageError, one_line

ADDRESS = "RAY_ADDRESS"
# Until which a cluster must have answered a first call.
ANSWER_SECONDS = 10.0
# In which a head that is there has answered, be it ever so busy.
GONE_SECONDS = 5.0
TOKENS = "RAY_AUTH_MODE=token and the cluster's token, in RAY_AUTH_TOKEN or in a file that RAY_AUTH_TOKEN_PATH names"


class Cluster(NamedTuple):
    """What a cluster has.

    Attributes:
        nodes: resources of each node that takes work.
        grows: whether more may come: to a cluster that was not started for this command.
        coming: the most of each resource that its autoscaler says it adds up to; empty where none says so.
    """

    nodes: list[Mapping[str, float]]
    grows: bool
    coming: Mapping[str, float] = MappingProxyType({})


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Ray, joined or started; left or stopped afterwards if it was not there before.

    Joined is what this process, or `RAY_ADDRESS`, names. Without a name Ray itself would join whatever cluster is
    named in a folder that every user of the machine may write, and run its code there.

    Raises:
        UsageError: no cluster answers at the address, or not to this user's token.
        RayStartError: none is named, and none could be started here.
    """
    if ray.is_initialized():
        yield _present()
        return
    address = os.environ.get(ADDRESS) or "local"
    with _started() if address == "local" else _joined(address):
        try:
            with _terminable():
                yield _present()
        finally:
            _leave()


def _present() -> Cluster:
    """The cluster as it is now."""
    grows = not _is_own()
    return Cluster(nodes_for_work(), grows, _coming() if grows else {})


def _coming() -> Mapping[str, float]:
    """The most of each resource that the autoscaler's own configuration allows; empty where it reports none."""
    if not worker.global_worker.connected:
        return {}
    return state.state.get_max_resources_from_cluster_config() or {}


@contextmanager
def _started() -> Iterator[None]:
    """A Ray of our own on this machine."""
    with prepared() as options:
        try:
            _init("local", include_dashboard=False, **options)
        except Exception as error:  # of sockets, files, tokens or Ray, which raises all kinds
            raise RayStartError(one_line(error)) from error
        yield


@contextmanager
def _joined(address: str) -> Iterator[None]:
    """The cluster at an address."""
    try:
        _check_answers(address)
        _init(address)
    except AuthenticationError as error:
        raise UsageError("token", _token_named(), f"{TOKENS} ({one_line(error)})") from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(ADDRESS, address, f"a cluster that answers ({one_line(error)})") from None
    yield


def _init(address: str, **options: Any) -> None:
    """Ray's own start. Its handler of SIGTERM, which would exit with 15, is there meanwhile."""
    try:
        ray.init(
            address=address,
            job_config=_job_config(address),
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )
    except SystemExit as stop:
        sys.exit(INTERRUPTED if stop.code == signal.SIGTERM else stop.code)


def _check_answers(address: str) -> None:
    """Asks the cluster for something small: Ray itself would go on asking for a quarter of an hour.

    Raises:
        UsageError: nothing answers within seconds, or it refuses the token.
    """
    scheme, separator, named = address.rpartition("://")
    if separator and scheme != "ray":
        raise UsageError(ADDRESS, address, "HOST:PORT, ray://HOST:PORT, auto or local")
    method = "/ray.rpc.RayletDriver/ClusterInfo" if separator else "/ray.rpc.NodeInfoGcsService/GetClusterId"
    place = named
    if not separator:  # what Ray will ask: it has another name for loopback
        place = services.canonicalize_bootstrap_address(address) or address
    if address == "auto":
        named = place
    channel = init_grpc_channel(place, [("grpc.enable_http_proxy", 0)])
    try:
        channel.unary_unary(method)(b"", timeout=ANSWER_SECONDS)
    except Exception as error:
        code = getattr(getattr(error, "code", lambda: None)(), "name", None)
        if code == "UNAUTHENTICATED":
            raise UsageError("token", _token_named(), f"{TOKENS}; {named} refuses this one") from None
        if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            raise UsageError(ADDRESS, address, f"a cluster that answers; nothing answers at {named}") from None
        if code is None:
            raise
        if code == "UNIMPLEMENTED":
            raise UsageError(ADDRESS, address, f"a cluster of Ray; what answers at {named} is none") from None
    finally:
        channel.close()


def is_gone() -> bool:
    """Whether the cluster's head no longer answers, as after a signal that was for Ray's processes too."""
    if not worker.global_worker.connected:  # not at all, or by Ray's client, which hears of it itself
        return False
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=GONE_SECONDS).close()
    except OSError:
        return True
    return False


def _leave() -> None:
    """Ends the connection, and a Ray of our own with it.

    A head that is gone would be waited for, and then Ray ends the process with a text of its own. So what is left of
    our processes is killed, and Ray is not asked for anything any more, not even when the process ends.
    """
    if is_gone():
        node: Any = worker._global_node
        if node is not None and node.is_head():
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        atexit.unregister(worker.shutdown)
        atexit.register(_end_at_once)
        return
    ray.shutdown()


def _end_at_once() -> None:
    """Ends the process without Ray's own ending, which crashes where the cluster is gone."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)


def _is_own() -> bool:
    """Whether this process has started the cluster: nobody adds nodes to it, and it ends with the process."""
    node: Any = worker._global_node
    return node is not None and bool(node.is_head())


def _token_named() -> str:
    """Where the token is from that was sent, as a person would look for it; never the token."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return "none (RAY_AUTH_MODE is not token)"
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "the one in RAY_AUTH_TOKEN"
    return f"the one in {os.environ.get('RAY_AUTH_TOKEN_PATH') or '~/.ray/auth_token'}"


class _Folders(list[str]):
    """Where Ray has workers import from first of all: not from the folder that the command is given in.

    A file `torch.py` in it would be run, and it may be a run of somebody else's. Actors are told where the driver
    imports from; there this folder is the last, where code in it was asked for, and else it is none.
    """

    def extend(self, folders: Iterable[str]) -> None:
        super().extend(folder for folder in folders if folder != os.getcwd())


def _job_config(address: str) -> Any:
    """What workers are told of the driver; None, Ray's own, for its client, which adds no folder."""
    if "://" in address:
        return None
    config = JobConfig()
    config._py_driver_sys_path = _Folders()  # Ray has no option for it
    return config


@contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end the command as SIGINT does, to be resumed; Ray's own handler would exit with 15."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def nodes() -> dict[str, Mapping[str, float]]:
    """Id of each node that is alive -> its resources, such as ``{"CPU": 8, "GPU": 1}``."""
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["Resources"] for node in known if node["Alive"]}


def nodes_for_work() -> list[Mapping[str, float]]:
    """Resources of each node that is alive and takes work: Ray places nothing on a node that drains."""
    leaving = draining_nodes()
    return [resources for node, resources in nodes().items() if node not in leaving]


def draining_nodes() -> Set[str]:
    """Ids of the nodes that are about to go, such as a spot machine that was given notice.

    No public call of Ray 2.60 tells them, and Ray Train asks in this way too. Empty with Ray's client, which does not
    know them.
    """
    if not worker.global_worker.connected:
        return frozenset()
    return state.state.get_draining_nodes().keys()

"""Work beside the device's thread: where it runs, how it fails, and that a fork and a waiting method get over it."""

from __future__ import annotations

import os
import threading

import pytest
import torch

from ssig.types.beside import begin, beside, waited

ON_THE_CPU = torch.empty(0)
ELSEWHERE = torch.empty(0, device="meta")


def name_of_thread() -> str:
    return threading.current_thread().name


def test_work_runs_in_the_calling_thread_on_the_cpu_and_in_the_pool_elsewhere() -> None:
    assert beside(name_of_thread, like=ON_THE_CPU).result() == name_of_thread()
    assert beside(name_of_thread, like=ELSEWHERE).result().startswith("beside")


def test_an_error_reaches_who_waits() -> None:
    with pytest.raises(ZeroDivisionError):
        begin(lambda: 1 / 0).result()


def test_a_coroutine_requests_nothing_for_work_that_is_done() -> None:
    with pytest.raises(StopIteration) as stopped:
        next(waited(beside(sum, (1, 2), like=ON_THE_CPU)))
    assert stopped.value.value == 3


def test_a_coroutine_waits_by_a_request_without_points() -> None:
    go = threading.Event()
    future = begin(lambda: go.wait(30))
    steps = waited(future)
    request = next(steps)
    assert (len(request.points), request.until) == (0, future)
    go.set()
    future.result()
    with pytest.raises(StopIteration) as stopped:
        next(steps)
    assert stopped.value.value is True


def test_a_child_of_a_fork_has_threads_of_its_own() -> None:
    begin(int).result()
    child = os.fork()
    if child == 0:
        try:
            begin(int).result(timeout=30)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

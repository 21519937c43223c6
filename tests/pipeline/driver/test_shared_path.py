"""Whether actors of other nodes write to the same run directory."""

from __future__ import annotations

import pytest
from simulated import SimulatedExecutor

from pipeline.driver.executor import Member, RunError
from pipeline.driver.shared_path import check_shared


def test_a_local_path_must_be_seen_by_every_actor_and_a_url_need_not() -> None:
    executor = SimulatedExecutor()
    member = Member("actor-1", info={"host": "far"})
    check_shared(executor, member, "/data/run", "logs/a.jsonl")
    executor.shares_files = False
    check_shared(executor, member, "s3://bucket/run", "logs/a.jsonl")
    with pytest.raises(RunError, match=r"output\.path: /data/run is a local path that far does not see; give a"):
        check_shared(executor, member, "/data/run", "logs/a.jsonl")

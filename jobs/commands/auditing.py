"""`ssig audit`: in this process, or by tasks on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.checks.audit import audit
from pipeline.checks.examination import Examine, examine_here
from pipeline.checks.findings import AuditResult
from pipeline.checks.repair import Repair, repair
from pipeline.checks.sampling import Sample
from pipeline.driver.needs_ray import require_ray

# The cluster that RAY_ADDRESS names, as it does in a job of Ray or of Slurm, or else that of this machine.
AUTO = "auto"
LOCAL = "local"


def audited(
    run: str, mend: bool, sample: tuple[int, int] | None, address: str | None
) -> tuple[AuditResult, Repair | None]:
    """Audits a run, or repairs it; the audit, and what the repair did.

    Args:
        run: its path or URL.
        mend: whether to repair it.
        sample: how many units to examine, and the seed of their choice; None for all.
        address: of the Ray cluster that examines, or `AUTO`; None for this process.
    """
    with _examining(address) as examine:
        if mend:
            mended = repair(run, examine)
            return mended.audit, mended
        return audit(run, examine, None if sample is None else Sample(*sample)), None


@contextmanager
def _examining(address: str | None) -> Iterator[Examine]:
    if address is None:
        yield examine_here
        return
    require_ray("address", address, "no --address: the units are then examined in this process")
    from pipeline.driver.audit_tasks import examine_on_cluster
    from pipeline.driver.ray_cluster import ADDRESS

    if address != AUTO or os.environ.get(ADDRESS, LOCAL) == LOCAL:
        os.environ[ADDRESS] = address
    with examine_on_cluster() as examine:
        yield examine

"""Each method and metric gives what its reference implementation gives, within the tolerance of its check."""

from __future__ import annotations

import numpy as np
import pytest
from check import Check
from method_checks import CHECKS
from metric_checks import METRIC_CHECKS

# First word of a reference -> its package, of those that come with the tests alone.
PACKAGES = {"captum": "captum", "PAIR": "saliency", "Quantus": "quantus", "OpenCV": "cv2"}


def needs(reference: str) -> None:
    """Skips a test whose reference is not installed."""
    if (package := PACKAGES.get(reference.partition(" ")[0])) is not None:
        pytest.importorskip(package)


def on(network: str) -> pytest.MarkDecorator:
    """The checks on a network."""
    checks = [check for check in CHECKS if check.name.endswith(f" on {network}")]
    return pytest.mark.parametrize("check", checks, ids=lambda check: f"{check.name}, {check.reference}")


@on("small")
def test_methods_and_metrics_agree_with_their_references(check: Check) -> None:
    needs(check.reference)
    assert check.measure() <= check.tolerance


@pytest.mark.slow
@on("lite0")
def test_methods_and_metrics_agree_with_their_references_on_a_photograph(check: Check) -> None:
    needs(check.reference)
    assert check.measure() <= check.tolerance


def test_each_check_is_another_and_has_its_network() -> None:
    assert len({(check.name, check.reference) for check in CHECKS}) == len(CHECKS)
    assert {check.name.rpartition(" on ")[2] for check in CHECKS} == {"small", "lite0"}


def test_a_metric_that_differs_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = (check for check in METRIC_CHECKS if (check.name, check.reference[:2]) == ("gini on small", "Qu"))
    needs(check.reference)
    monkeypatch.setattr("metric_references.quantus_map", lambda *_: np.zeros(3))
    assert check.measure() > 0.1

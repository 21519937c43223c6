"""What `docs/explanation/choosing.md` says of the study holds in the published numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.study.data import Panel, Study
from jobs.study.design import FAMILIES, TWO, VARIANTS
from jobs.study.page import DATA_FOLDER

PAGE = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "choosing.md"
SIGNED = ("ssig-signed", "ssig-shapley", "ssig-path")
OF_A_LAYER = ("grad-cam", "integrated-grad-cam", "grad-cam++", "layer-cam", "hires-cam", "score-cam")
WHOLE = 20  # images: methods with fewer numbers are left out


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(DATA_FOLDER)


def said(text: str) -> None:
    assert text in PAGE.read_text(encoding="utf-8")


def ordered(study: Study, network: str, column: str, *, best: int = 1) -> list[str]:
    """The methods of a network by their mean over the images that all of them have, the best first."""
    panel = study.joined(network)
    assert panel is not None
    names = [name for name in panel.methods if np.isfinite(panel.of(column, name)).sum() >= WHOLE]
    means = of_all(panel, column, names)
    return sorted(names, key=lambda name: -best * means[name])


def of_all(panel: Panel, column: str, names: list[str]) -> dict[str, float]:
    values = np.stack([panel.of(column, name) for name in names], axis=1)
    means = values[np.isfinite(values).all(axis=1)].mean(axis=0)
    return dict(zip(names, means.tolist(), strict=True))


def test_the_variants_that_are_recommended_for_signed_maps_have_the_highest_gap(study: Study) -> None:
    said("`ssig-signed` and `ssig-shapley` have the highest insertion minus deletion of all variants of suppression")
    for network in FAMILIES:
        variants = [name for name in ordered(study, network, "gap") if name in VARIANTS]
        assert set(variants[:2]) == {"ssig-signed", "ssig-shapley"}, network


def test_what_leads_by_insertion_is_worse_by_deletion(study: Study) -> None:
    said("`samp++` has the highest `insertion` and the highest insertion minus deletion on all five networks of")
    said("and a worse `deletion` than signed suppression")
    for network in FAMILIES:
        assert ordered(study, network, "gap")[0] == ordered(study, network, "insertion")[0] == "samp++"
        deletion = ordered(study, network, "deletion", best=-1)
        assert max(deletion.index(name) for name in SIGNED) < deletion.index("samp++"), network


def test_maps_of_a_layer_localise_and_delete_as_it_is_said(study: Study) -> None:
    said("their ROC-AUC is among the highest on three of five networks of")
    first = [network for network in FAMILIES if set(ordered(study, network, "roc_auc")[:3]) & set(OF_A_LAYER)]
    assert len(first) == 3
    for network in FAMILIES:
        deletion = ordered(study, network, "deletion", best=-1)
        layers = [deletion.index(name) for name in OF_A_LAYER if name in deletion]
        assert not layers or max(deletion.index(name) for name in SIGNED) < min(layers), network


def test_how_far_maps_repeat_and_depend_on_the_network(study: Study) -> None:
    said("their maps differ from seed to seed, `ssig-signed` the least")
    said("`ssig-path` differs most from seed to seed")
    said("the map of `ssig` changes less than those of most rivals")
    for network in study.networks("sanity"):
        repeats = [name for name in ordered(study, network, "stability") if name in VARIANTS]
        assert repeats[0] == "ssig", network
        assert next(name for name in repeats if name in SIGNED) == "ssig-signed", network
        assert repeats[-1] == "ssig-path", network
        methods = [
            name for name in ordered(study, network, "mprt", best=-1) if name not in ("random", "sobel", "centre")
        ]
        assert methods.index("ssig") > 0.6 * len(methods), network


def test_four_gradients_beat_one(study: Study) -> None:
    said("With 4, `ssig-signed` and `ssig-path` have a higher insertion minus deletion than `gradient` in")
    for network in TWO:
        panel = study.panel("core", network)
        assert panel is not None
        means = of_all(panel, "gap", ["ssig-signed-4", "ssig-path-4", "gradient"])
        assert min(means["ssig-signed-4"], means["ssig-path-4"]) > means["gradient"], network

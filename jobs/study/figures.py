"""The figures of the study: one of each question, from its answer; none where nothing is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jobs.study.agreement import Agreement
from jobs.study.augmentation import RIVALS, SUPPRESSION, Augmentation
from jobs.study.choices import Best, Cost
from jobs.study.data import GAP, MEASURES, Study
from jobs.study.design import CONTROLS, LAWS, VARIANTS
from jobs.study.drawing import grid, legend, line, matrix, names, ruled, tiles, zero
from jobs.study.equal_change import CHANGE, NEARNESS, SATURATION, curves
from jobs.study.inference import Estimate, mean_difference, mean_of
from jobs.study.labels import law_and_integrand
from jobs.study.nearness import laws_of
from jobs.study.published import title
from jobs.study.rivalry import OVER, Comparison
from pipeline.report.drawing import SOFT
from pipeline.report.styles import TONES, line_styles

# Panels in a row of the matrices of rivals and of measures.
WIDE, BROAD = 3, 2
CURVES = {"insertion_curve": "inserted", "deletion_curve": "deleted"}
# Few enough to tell apart: the variants, the best known rivals, and the floor.
CURVED = (*VARIANTS, "ig", "guided-ig", "smoothgrad", "grad-cam", "samp++", "spi", "random")


def rivalry_figure(rows: Sequence[Comparison]) -> Figure | None:
    """Question 1: each variant minus each rival on the gap, network by network; a dot where it is known."""
    chosen = [row for row in rows if row.measure == GAP]
    networks = list(dict.fromkeys(row.network for row in chosen))
    if not networks:
        return None
    counts = Counter(row.rival for row in chosen)
    rivals = sorted(counts, key=lambda name: -counts[name])  # those of most networks first
    variants = [name for name in VARIANTS if any(row.variant == name for row in chosen)]
    figure, axes = tiles(len(networks), WIDE, 100 + 16 * len(variants), 120 + 13 * len(rivals))
    for place, network in enumerate(networks):
        values, marks = np.full((2, len(rivals), len(variants)), np.nan)
        for row in chosen:
            if row.network == network:
                cell = rivals.index(row.rival), variants.index(row.variant)
                values[cell], marks[cell] = row.estimate.mean, row.sign
        name = "over networks" if network == OVER else title(network)
        drawn = matrix(axes[place], values, np.nan_to_num(marks), 0.4, name)
        names(axes[place], rivals if place % WIDE == 0 else [], variants)
    figure.colorbar(drawn, ax=axes, fraction=0.02)
    return figure


def curves_figure(study: Study) -> Figure | None:
    """Question 1: mean curves of insertion and deletion, network by network."""
    every = {
        network: {column: study.curves(network, column) for column in CURVES} for network in study.networks("core")
    }
    found = {network: means for network, means in every.items() if all(means.values())}
    if not found:
        return None
    shown = [name for name in CURVED if any(name in means[column] for means in found.values() for column in CURVES)]
    figure, axes = grid(len(found), len(CURVES), 320, 230)
    for row, (network, means) in enumerate(found.items()):
        for place, (column, words) in enumerate(CURVES.items()):
            panel = axes[row][place]
            for name in shown:
                if name in means[column]:
                    values = means[column][name]
                    panel.plot(np.linspace(0, 1, len(values)), values, label=name, **_curve_style(name))
            ruled(panel, f"{title(network)}: {words}", f"share of pixels {words}", "probability of the target")
    legend(figure, max((each for line_ in axes for each in line_), key=lambda each: len(each.lines)), 5)
    return figure


def _curve_style(name: str) -> dict[str, Any]:
    """Variants are solid, rivals dashed, the floor grey."""
    if name in CONTROLS:
        return {"color": SOFT, "linestyle": ":", "linewidth": 1.2}
    if name in VARIANTS:
        return {"color": TONES[VARIANTS.index(name)].light, "linewidth": 1.8}
    rivals = [each for each in CURVED if each not in (*VARIANTS, *CONTROLS)]
    return {"color": TONES[rivals.index(name)].light, "linestyle": "--", "linewidth": 1.2}


def equal_change_figure(study: Study, quantities: Sequence[str]) -> Figure | None:
    """Questions 2 and 4: a quantity of each law against the change of a pixel."""
    networks = [network for network in study.networks(LAWS) if curves(study, network)]
    if not networks:
        return None
    figure, axes = grid(len(networks), len(quantities), 250, 210)
    for row, network in enumerate(networks):
        laws = curves(study, network)
        styles = line_styles([curve.law for curve in laws])
        for column, quantity in enumerate(quantities):
            panel = axes[row][column]
            for curve in laws:
                estimates = [_means(values, quantity) for values in curve.columns[quantity].T]
                change = np.nanmean(curve.columns[CHANGE[quantity]], axis=0).tolist()
                line(panel, change, estimates, styles[curve.law], curve.law)
            shown = {**NEARNESS, **SATURATION}[quantity]
            ruled(panel, title(network) if column == 0 else "", "change of a pixel (RMS)", shown)
    legend(figure, axes[0][0], 2 * len(quantities))
    return figure


def _means(values: np.ndarray, quantity: str) -> Estimate:
    return mean_difference(values, 2.0) if quantity == "kid" else mean_of(values)


def nearness_figure(study: Study) -> Figure | None:
    """Question 3: certainty against nearness, and faithfulness against certainty, a point a law."""
    panels = [laws_of(panel) for name in study.networks("near") if (panel := study.panel("near", name)) is not None]
    if not panels:
        return None
    figure, axes = grid(len(panels), 2, 280, 220)
    for row, panel in enumerate(panels):
        means = {name: np.nanmean(panel.columns[name], axis=0) for name in ("certainty", GAP.column)}
        drawn = np.isfinite(panel.columns["alignment"]).any(axis=0)
        distance = np.full(len(panel.methods), np.nan)
        distance[drawn] = np.nanmean(panel.columns["alignment"][:, drawn], axis=0)
        noise = np.array([name.startswith("noise") for name in panel.methods])
        for column, (across, up, labels) in enumerate(
            (
                (-distance, means["certainty"], ("nearness", "certainty")),
                (means["certainty"], means[GAP.column], ("certainty", "insertion minus deletion")),
            )
        ):
            for group, tone, label in ((~noise, TONES[0], "suppression"), (noise, TONES[1], "noise")):
                axes[row][column].plot(
                    across[group], up[group], linestyle="", marker="o", markersize=4, color=tone.light, label=label
                )
            ruled(axes[row][column], title(panel.network), *labels)
    legend(figure, axes[0][0])
    return figure


def augmentation_figure(answer: Augmentation | None) -> Figure | None:
    """Question 5: the gap over random maps of suppression and of rivals, network by network."""
    if answer is None:
        return None
    networks = list(dict.fromkeys(level.network for level in answer.levels))
    figure, axes = grid(1, 1, 90 * len(networks) + 60, 220)
    for shift, group, tone in ((-0.1, SUPPRESSION, TONES[0]), (0.1, RIVALS, TONES[1])):
        levels = [level for level in answer.levels if level.group == group]
        means = [level.estimate.mean for level in levels]
        errors = [
            [level.estimate.mean - level.estimate.low for level in levels],
            [level.estimate.high - level.estimate.mean for level in levels],
        ]
        places = [networks.index(level.network) + shift for level in levels]
        axes[0][0].errorbar(places, means, yerr=errors, fmt="o", color=tone.light, label=group, markersize=4)
    heavy = {level.network: "heavy" if level.augmented else "light" for level in answer.levels}
    axes[0][0].set_xticks(range(len(networks)), [f"{title(name)}\n{heavy[name]}" for name in networks])
    ruled(axes[0][0], "gap over that of random maps", "", "")
    zero(axes[0][0])
    legend(figure, axes[0][0])
    return figure


def integrand_figure(rows: Sequence[Best]) -> Figure | None:
    """Question 6: the mean gap of each law with each integrand."""
    chosen = [row for row in rows if row.measure == GAP]
    if not chosen:
        return None
    pairs = sorted({pair for row in chosen for label, _ in row.order if (pair := law_and_integrand(label))})
    laws, integrands = (list(dict.fromkeys(pair[place] for pair in pairs)) for place in (0, 1))
    figure, axes = grid(1, len(chosen), 250, 100 + 18 * len(laws))
    for place, row in enumerate(chosen):
        values = np.full((len(laws), len(integrands)), np.nan)
        for label, estimate in row.order:
            if pair := law_and_integrand(label):
                values[laws.index(pair[0]), integrands.index(pair[1])] = estimate.mean
        panel = axes[0][place]
        panel.imshow(values, cmap="Blues", vmin=0, vmax=max(0.6, float(np.nanmax(values))), aspect="auto")
        for (line_, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "#ffffff" if value > 0.35 else "#1f1f1d"
                panel.text(column, line_, f"{value:.3f}", ha="center", va="center", fontsize=8, color=colour)
        panel.set_title(title(row.network), loc="left", fontsize=10)
        panel.spines[:].set_visible(False)
        names(panel, laws if place == 0 else [], integrands)
    return figure


def cost_figure(rows: Sequence[Cost]) -> Figure | None:
    """Question 6: quality against gradients."""
    networks = list(dict.fromkeys(row.network for row in rows))
    if not networks:
        return None
    styles = line_styles(list(dict.fromkeys(row.method for row in rows)))
    figure, axes = grid(1, len(networks), 310, 300)
    for place, network in enumerate(networks):
        for row in rows:
            if row.network == network:
                line(axes[0][place], row.gradients, row.quality, styles[row.method], row.method)
        axes[0][place].set_xscale("log", base=2)
        ticks = sorted({count for row in rows for count in row.gradients})
        axes[0][place].set_xticks(ticks, map(str, ticks))
        ruled(axes[0][place], title(network), "gradients an image", "insertion minus deletion")
    legend(figure, axes[0][0], 4)
    return figure


def agreement_figure(rows: Sequence[Agreement]) -> Figure | None:
    """Question 7: the rank correlation of each two measures over methods, network by network."""
    within = [row for row in rows if row.first[0] == row.second[0] and np.isfinite(row.estimate.mean)]
    networks = list(dict.fromkeys(row.first[0] for row in within))
    if not networks:
        return None
    measures = [measure for measure in MEASURES if any(measure in (row.first[1], row.second[1]) for row in within)]
    figure, axes = tiles(len(networks), BROAD, 80 + 18 * len(measures), 110 + 16 * len(measures))
    for place, network in enumerate(networks):
        values = np.full((len(measures), len(measures)), np.nan)
        for row in within:
            if row.first[0] == network:
                cell = measures.index(row.first[1]), measures.index(row.second[1])
                values[cell] = values[cell[::-1]] = row.estimate.mean
        drawn = matrix(axes[place], values, np.zeros(values.shape), 1.0, title(network))
        shown = [measure.title for measure in measures]
        names(axes[place], shown if place % BROAD == 0 else [], shown)
    figure.colorbar(drawn, ax=axes, fraction=0.02)
    return figure

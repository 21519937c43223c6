"""What the study's data do not say yet."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping

from jobs.study.data import Study
from jobs.study.design import FAMILIES, LAWS, METHODS, PERMUTED, blocks
from jobs.study.entries import known
from jobs.study.published import TABLE, title
from jobs.study.words import listed

FIRST = ("core", "first")
FURTHER = ("core", "rivals")  # planned on some networks alone; it is said of all others too
# (metrics, methods) of a first block -> what is said of the networks that lack it.
LACKING: Mapping[tuple[str, str], str] = {
    FIRST: "The core metrics are not measured on {}.",
    ("core", "second"): "Newer rivals, among them `samp++`, `spi` and `mfaba`, are not measured on {}.",
    FURTHER: "Further rivals, among them `score-cam`, `occlusion` and `captum:KernelShap`, are not measured on {}.",
    ("core", "attention"): "Maps of attention are not measured on {}.",
    ("core", "layers"): "Captum's methods with rules for layers are not measured on {}.",
    ("information", "first"): "Question 1 lacks ROAD, SIC and AIC on {}.",
    ("information", "second"): "Question 1 lacks ROAD, SIC and AIC of newer rivals on {}.",
    ("information", "fewer"): "Question 7 lacks ROAD, SIC and AIC of maps with fewer gradients on {}.",
    ("sanity", "first"): "Questions 1 and 3 lack stability, MPRT and the nearness of each method on {}.",
    ("sanity", "drawn"): "Question 1 lacks the stability of `spi`, `spi-p`, `expected-gradients` and `rise` on {}.",
    (LAWS, LAWS): "Questions 2 and 4 lack the distances and gradients of samples on {}.",
    ("near", "strengths"): "Question 3 lacks laws at several strengths on {}.",
    ("core", "readouts"): "Question 6 lacks laws and integrands on {}.",
    ("core", "costs"): "Question 6 lacks the curve of quality against gradients on {}.",
    (PERMUTED, PERMUTED): "Question 7 lacks maps of a network with permuted weights on {}.",
}


def open_points(study: Study) -> list[str]:
    """A sentence for each."""
    points = [*_lacking(study), *_refused(study)]
    measured = {label for _, record in study.blocks for label in (*record["methods"], *record["refused"])}
    groups = ("first", "second", "rivals")
    waiting = [label for group in groups for label in known(METHODS[group]) if label not in measured]
    if waiting:
        points.append(f"No network has numbers of {listed([f'`{label}`' for label in waiting])} yet.")
    present = {(record["metrics"], record["network"]) for _, record in study.blocks}
    papers = list(dict.fromkeys(row.paper for row in TABLE if (row.block, row.network) not in present))
    if papers:
        points.append(f"Not measured again yet: the {'table' if len(papers) == 1 else 'tables'} of {listed(papers)}.")
    points.append("Architecture and augmentation go together in question 5, so it shows no cause.")
    return points


def _lacking(study: Study) -> Iterator[str]:
    """What is not measured yet; a network that lacks the first methods lacks all, and is named once."""
    there = {(record["network"], record["block"]) for _, record in study.blocks}
    begun = study.networks(FIRST[0])
    planned = blocks()
    for kind, sentence in LACKING.items():
        first = {block.network: block for block in reversed(planned) if (block.metrics, block.methods) == kind}
        (name,) = {block.name for block in first.values()}
        networks = [
            title(network)
            for network in FAMILIES
            if (network in first or kind == FURTHER)
            and (network, name) not in there
            and (network in begun or kind == FIRST)
        ]
        if networks:
            yield sentence.format(listed(networks))


def _refused(study: Study) -> Iterator[str]:
    """Which methods networks cannot run, and why: methods of one reason together, and networks with the same ones."""
    refused: dict[tuple[str, str], set[str]] = {}
    for _, record in study.blocks:
        for label, refusal in record["refused"].items():
            refused.setdefault((title(record["network"]), reason_of(refusal["reason"])), set()).add(label)
    alike: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for (network, reason), labels in refused.items():
        alike.setdefault((tuple(sorted(labels)), reason), []).append(network)
    for (names, reason), networks in alike.items():
        yield f"{listed(networks)} cannot run {listed([f'`{name}`' for name in names])}: {reason}."


def reason_of(line: str) -> str:
    """The first sentence of why a method was refused, of the command's error line."""
    text = line.partition("allowed: ")[2].partition(": ")[2] or line
    text = re.sub(r"^Captum's \w+(: (its )?| cannot explain this network: )", "", text)
    kind = re.match(r"TypeError: Module of type <class '[\w.]*?(\w+)'> has no rule ", text)
    if kind:
        return f"Captum has no rule for its `{kind[1]}`"
    return html.escape(re.split(r"\.\s", text, maxsplit=1)[0].rstrip("."), quote=False)

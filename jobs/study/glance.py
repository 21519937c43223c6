"""The study at a glance: of each network the best variant of suppression beside its hardest rival, in one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from jobs.study.data import MEASURES_BY_GROUP, Study
from jobs.study.design import VARIANTS
from jobs.study.published import title
from jobs.study.rivalry import OVER, Comparison, panel_of
from jobs.study.tables import Table
from pipeline.report.numbers import NONE, number

COLUMNS = ("gap", "diffid", "roc_auc", "certainty")  # faithfulness, twice; localisation; what the paper claims
HARDEST = (
    f"The table has the best of {len(VARIANTS)} variants by the mean ({', '.join(f'`{name}`' for name in VARIANTS)}) "
    "and its hardest rival: the one surely ahead by most; without one, the one ahead by most or behind by least. Both "
    "were chosen on these images, and intervals do not account for that."
)
WORDS = {-1: "behind", 0: "not told from", 1: "ahead of"}


def legend(rows: Sequence[Comparison]) -> str:
    """What the table's words mean, with the number of comparisons that they are corrected for."""
    sizes = Counter(row.network for row in rows if row.network != OVER and np.isfinite(row.p))
    least, most = min(sizes.values(), default=0), max(sizes.values(), default=0)
    size = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    return (
        "Means are over the images that both have; how many is in brackets. **Behind** and **ahead of** are sure: p < "
        f".05 after Holm's correction for all {size} comparisons of the network. *Perhaps*: only the 95 % interval of "
        "this one comparison leaves out 0. *Not told from*: not even that, which does not make them equal."
    )


def glance_table(study: Study, leads: Sequence[Comparison]) -> Table:
    """A network a row and a measure a column: variant, relation, rival, with their means over the images of both.

    Args:
        study: the means.
        leads: of each network and measure, the best variant against its hardest rival.
    """
    titles = {measure.column: measure.title for measures in MEASURES_BY_GROUP.values() for measure in measures}
    cells = {(row.network, row.measure.column): _cell(study, row) for row in leads}
    table = [["network", *(titles[column] for column in COLUMNS)]]
    for network in dict.fromkeys(row.network for row in leads):
        table.append([title(network), *(cells.get((network, column), NONE) for column in COLUMNS)])
    return table


def _cell(study: Study, row: Comparison) -> str:
    panel = panel_of(study, row)
    sides = np.stack([panel.of(row.measure.column, name) for name in (row.variant, row.rival)], axis=1)
    means = sides[np.isfinite(sides).all(axis=1)].mean(axis=0)
    variant, rival = (f"`{name}` {number(mean)}" for name, mean in zip((row.variant, row.rival), means, strict=True))
    return f"{variant} {_relation(row)} {rival} ({row.estimate.count})"


def _relation(row: Comparison) -> str:
    alone = row.estimate.sign
    return f"**{WORDS[row.sign]}**" if row.sign else f"perhaps {WORDS[alone]}" if alone else WORDS[0]

"""Scores `f_y`: the explained number per image, from the logits and the target class.

logit            f_y = l_y
log-probability  f_y = l_y - logsumexp(l)
probability      f_y = softmax(l)_y
"""

from __future__ import annotations

from torch import Tensor

from ssig.errors import ModelError

SCORES = ("logit", "log-probability", "probability")


def score(logits: Tensor, targets: Tensor, name: str) -> Tensor:
    """The score of each row's target, (n,).

    Args:
        logits: (n, classes).
        targets: (n,) int64 in [0, classes), or (n, classes) weights: then the score is the weighted sum of the logits.
        name: one of `SCORES`.
    """
    if targets.ndim == 2:
        return (logits * targets.to(logits)).sum(dim=1)
    if name == "log-probability":
        logits = logits.log_softmax(dim=1)
    elif name == "probability":
        logits = logits.softmax(dim=1)
    elif name != "logit":
        raise ValueError(f"unknown score {name!r}")
    return logits.gather(1, targets.unsqueeze(1)).squeeze(1)


def check_targets(targets: Tensor, classes: int) -> None:
    """Refuses targets that are no class of a network; those on an accelerator are not read, which would wait for it.

    Args:
        targets: (n,) int64, or (n, classes) weights.
        classes: how many the network has.

    Raises:
        ModelError: names the target, and the number of classes.
    """
    if targets.ndim == 2 and targets.shape[1] != classes:
        raise ModelError(f"weights of {targets.shape[1]} classes for a network with {classes} classes")
    if targets.ndim == 1 and len(targets) and targets.device.type == "cpu":
        lowest, highest = (int(bound) for bound in targets.aminmax())
        if lowest < 0 or highest >= classes:
            wrong = lowest if lowest < 0 else highest
            raise ModelError(f"target class {wrong} of a network with {classes} classes, 0 to {classes - 1}")

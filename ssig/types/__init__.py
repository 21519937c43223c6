"""The contracts of methods with the engine (`method`), and of metrics with their callers (`metric`)."""

from ssig.types.memo import Memo
from ssig.types.method import (
    SCORE,
    SCORE_AND_GRADIENT,
    Attribution,
    Explained,
    Group,
    References,
    Request,
    Response,
    Steps,
    differs,
)
from ssig.types.metric import (
    NO_OBJECT,
    OUTSIDE,
    TOO_SMALL,
    Box,
    Evaluation,
    Explainer,
    MetricResult,
    Scored,
    Scores,
    evaluation_of,
)

__all__ = [
    "NO_OBJECT",
    "OUTSIDE",
    "SCORE",
    "SCORE_AND_GRADIENT",
    "TOO_SMALL",
    "Attribution",
    "Box",
    "Evaluation",
    "Explained",
    "Explainer",
    "Group",
    "Memo",
    "MetricResult",
    "References",
    "Request",
    "Response",
    "Scored",
    "Scores",
    "Steps",
    "differs",
    "evaluation_of",
]

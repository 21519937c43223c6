"""Names of files, made from labels and keys."""

from __future__ import annotations

import re

_LONGEST = 60


def slug(text: str) -> str:
    """Letters, digits and hyphens; ``x`` where nothing else is left."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:_LONGEST] or "x"

"""How numbers are written: three decimals, so that columns align; a true minus sign; a dash for what is not there."""

from __future__ import annotations

from pipeline.report.comparison import Estimate

NONE = "–"


def number(value: float | None) -> str:
    """A mean or another measured number."""
    if value is None:
        return NONE
    value += 0.0  # -0.0 becomes 0.0
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size >= 100:
        text = f"{value:.1f}"
    else:
        # Below the third decimal one significant digit stays, so that an interval near 0 keeps its sign.
        text = f"{value:.3f}" if size >= 0.0005 or value == 0 else f"{value:.1g}"
    return text.replace("-", "\N{MINUS SIGN}")


def signed(value: float | None) -> str:
    """A difference, with its sign."""
    return f"+{number(value)}" if value is not None and value > 0 else number(value)


def interval(estimate: Estimate) -> str:
    """The 95 % interval."""
    if estimate.low is None:
        return f"[{NONE}]"
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def percent(value: float | None) -> str:
    """A share, such as an accuracy."""
    return NONE if value is None else f"{100 * value:.1f} %"


def percent_interval(estimate: Estimate) -> str:
    """The 95 % interval of a share."""
    if estimate.low is None or estimate.high is None:
        return f"[{NONE}]"
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def p_value(value: float | None) -> str:
    """A p-value, with its sign; below .001 only the bound is given."""
    if value is None:
        return NONE
    return "< .001" if value < 0.001 else "= 1" if value >= 0.9995 else f"= {value:.3f}".replace("= 0.", "= .")


def integer(value: float | None) -> str:
    """A count."""
    return NONE if value is None else f"{value:,.0f}"


def count_number(value: float | None) -> str:
    """A mean of counts: without decimals where it is whole."""
    return NONE if value is None else f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def size(value: float | None) -> str:
    """Bytes, in the largest unit that gives at least 1."""
    if value is None:
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"

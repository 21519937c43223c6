"""`ssig status RUN --watch`: how far a run is, drawn again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.storage.jsontext import to_json
from ssig.errors import DONE

if TYPE_CHECKING:
    from pipeline.checks.watching import Look

# A driver whose last line is older is said to be silent: it writes one every 15 seconds, stored 30 later.
SILENT_SECONDS = 120.0
MOST_ACTORS = 40
CLEAR = "\x1b[H\x1b[J"


def watch(run: str, every: float, as_json: bool) -> int:
    """Prints the state of a run every few seconds, until all its units are done or the user ends it.

    Args:
        run: its path or URL.
        every: seconds between two looks.
        as_json: whether each look is one line of JSON.
    """
    from pipeline.checks.watching import Watch
    from pipeline.storage import open_storage

    watched = Watch(open_storage(run))
    try:
        while True:
            look = watched.look()
            if as_json:
                labels = [label._asdict() for label in look.labels]
                actors = [actor._asdict() for actor in look.actors]
                text = to_json({**asdict(look), "labels": labels, "actors": actors, "finished": look.is_finished})
            else:
                text = (CLEAR if sys.stdout.isatty() else "") + "\n".join(lines(look)) + "\n"
            print(text, flush=True)
            if look.is_finished:
                return DONE
            time.sleep(every)
    except KeyboardInterrupt:
        return DONE


def lines(look: Look) -> Iterator[str]:
    """A look for a person."""
    yield f"{look.run}: {driver_line(look)}"
    if look.shards_listed is not None:
        from pipeline.driver.progress import shards_listed

        yield f"  {shards_listed(look.shards_listed)}; units are counted of these"
    width = max((len(label.title) for label in look.labels), default=0)
    for label in look.labels:
        share = label.units_done / label.units if label.units else 0.0
        yield f"  {label.title:{width}}  {label.units_done}/{label.units} units  {share:.1%}"
    if look.failures:
        yield "  failed: " + ", ".join(f"{kind} {count}" for kind, count in sorted(look.failures.items()))
    for actor in look.actors[:MOST_ACTORS]:
        yield (
            f"  {actor.name}: {actor.in_flight} units in flight, {actor.under_way:g} maps of them computed, "
            f"{actor.units} units in 10 min" + (f"  ({actor.where})" if actor.where else "")
        )
    if len(look.actors) > MOST_ACTORS:
        yield f"  and {len(look.actors) - MOST_ACTORS} more actors"


def driver_line(look: Look) -> str:
    """What the driver does, in a few words."""
    from jobs.commands.progress import clock

    if look.is_finished:
        return "all units are done"
    if look.silent_seconds is None:
        return "no driver has begun"
    if look.has_ended:
        return "the last driver has ended; type the same command to go on"
    if look.silent_seconds > SILENT_SECONDS:
        return f"no sign of life for {clock(look.silent_seconds)}"
    parts = ["under way" if look.actors else "starting"]
    if look.rows_per_second:
        parts.append(f"{look.rows_per_second:.1f} maps/s")
    if look.seconds_left is not None:
        parts.append(f"{clock(look.seconds_left)} left")
    return ", ".join(parts)

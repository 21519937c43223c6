"""What the host's threads do beside a device: how many decode, how many units are in hand, and how they take turns.

The thread that feeds a device asks for Python's lock after every operation of the network. A thread that computes in
Python gives the lock up after the switch interval only, 5 ms unless it is set. A network of 7 small layers on a CPU,
gradients of 4 points at a time, points/s (`ssig bench host-metrics`; two cores with other work, medians of three
rounds, two runs):

    interval                 5 ms         1 ms          .5 ms         .1 ms          alone
    beside pure Python       241, 817     557, 1,192    960, 1,325    1,604, 1,369   2,934, 3,183
    beside NumPy             1,513, 1,541 1,698, 1,222  1,955, 1,251  1,691, 1,407   5,356, 3,483
    rounds/s in Python       8,059,11,945 5,793, 9,342  7,658, 9,078  10,042, 8,116

On one core, which both threads share, .1 ms cost the network beside NumPy three tenths (1,023 to 731) and NumPy a
sixth, so a worker that computes on the CPU keeps Python's interval. Unproved: no GPU was at hand.
"""

from __future__ import annotations

import math
import sys

SWITCH_SECONDS = 1e-4
# A unit's images are decoded by so many threads at most: a core decodes and resizes about 400 images/s.
MOST_DECODERS = 8

# Units in hand on a CPU: one that computes, one that is read or written meanwhile.
UNITS_ON_A_CPU = 2
# Thread seconds of a unit of 64 images on a host (measured): decoding, the order of equal pixels, and a table of maps.
_READ, _TIES, _WRITE = 0.26, 0.36, 0.60
# Seconds of such a unit on a GPU of 4,500 gradients/s (assumed): attribution with 50 gradients an image or with one;
# insertion, deletion and DiffID in both orders, 144 forward passes an image at three times the speed of gradients.
_LONG, _SHORT, _MEASURE = 0.71, 0.014, 0.68
# (on the device, on the host) of a unit of three jobs; the last keeps a device busy with no number of units.
JOBS = (
    (_LONG + _MEASURE, _READ + _TIES + _WRITE),
    (_SHORT + _MEASURE, _READ + _TIES + _WRITE),
    (_SHORT, _READ + _WRITE),
)


def units_in_hand(on_device: float, on_host: float, most: int) -> int:
    """How many units keep a device busy: while one is on it, the others are read, measured or written by the host.

    Args:
        on_device: seconds of a unit on the device.
        on_host: seconds of a unit on the host; units wait for each other on the device, and not on the host.
        most: units that memory allows.
    """
    if on_device <= 0:
        return most
    return max(1, min(most, math.ceil((on_device + on_host) / on_device)))


# Each holds its images on the host and, with references and orders of pixels, about 150 MB on the device (64 images of
# 224 x 224 pixels).
_MOST_UNITS = 4
UNITS_ON_A_GPU = max(units_in_hand(on_device, on_host, _MOST_UNITS) for on_device, on_host in JOBS)


def decoders(threads: int, on_gpu: bool) -> int:
    """Threads that decode for each unit, of an actor with so many cores; 0 for the unit's own thread.

    One core feeds the device. On a CPU all cores compute, and further threads would take their time.
    """
    return min(MOST_DECODERS, threads - 1) if on_gpu else 0


def take_turns_quickly() -> None:
    """Sets the switch interval of this process, which feeds a device."""
    sys.setswitchinterval(SWITCH_SECONDS)

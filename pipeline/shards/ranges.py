"""A file that is read forward by ranges: what is skipped is not asked for.

    gap <= `WORTH_A_REQUEST`   read over: a request would cost more than the bytes
    gap >  `WORTH_A_REQUEST`   skipped: the next request begins behind it

How much is asked for at once follows what was used. Behind a long gap it is twice the bytes that were used between the
two gaps before, at least `LEAST_AHEAD`: the small members and the next header, not the next image. Where no long gap
comes it doubles up to `MOST_AHEAD`. So a shard of small members is read whole, in few requests.
"""

from __future__ import annotations

from collections.abc import Callable

WORTH_A_REQUEST = 64 * 2**10
LEAST_AHEAD, MOST_AHEAD = 4 * 2**10, 2**20  # bytes


class RangedFile:
    """A file of a known size, from its first byte to its last.

    Args:
        read_range: (offset, size) -> the bytes, fewer only at the end of the file.
        size: of the file, in bytes.

    Attributes:
        position: where the next byte is read.
    """

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        self._read_range = read_range
        self._size = size
        self._start, self._buffer = 0, b""
        self._ahead = LEAST_AHEAD
        self._used_from = 0  # where the last long gap ended
        self.position = 0

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none only at the end."""
        begin = self.position - self._start
        if not 0 <= begin < len(self._buffer):
            self._fetch(size)
            begin = 0
        data = self._buffer[begin : begin + size]
        self.position += len(data)
        return data

    def skip(self, size: int, /) -> int:
        """Goes on by `size` bytes, as far as there are so many; by how many."""
        skipped = max(0, min(size, self._size - self.position))
        if skipped > WORTH_A_REQUEST:
            used = self.position - self._used_from
            self._ahead = min(MOST_AHEAD, max(LEAST_AHEAD, 2 * used))
            self._used_from = self.position + skipped
        self.position += skipped
        return skipped

    def _fetch(self, size: int) -> None:
        """Fills the buffer from the position on."""
        end = self._start + len(self._buffer)
        if 0 <= self.position - end <= WORTH_A_REQUEST and self.position > self._used_from:
            self._ahead = min(MOST_AHEAD, 2 * self._ahead)
        wanted = min(max(size, self._ahead), self._size - self.position)
        self._start = self.position
        self._buffer = self._read_range(self.position, wanted) if wanted > 0 else b""

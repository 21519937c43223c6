"""Results that are made once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ssig.types import Memo


def test_making_one_result_may_ask_for_another() -> None:
    memo = Memo()
    assert memo("outer", lambda: memo("inner", lambda: 1) + 1) == 2
    assert memo("inner", lambda: 5) == 1


def test_keeps_what_was_last_asked_for_and_makes_it_once() -> None:
    memo = Memo(most=2)
    made: list[str] = []

    def make(name: str) -> Callable[[], str]:
        def add() -> str:
            made.append(name)
            return name

        return add

    threads = [threading.Thread(target=memo, args=("a", make("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["a"]
    for name in ("b", "a", "c", "a", "b"):  # c takes the place of b, which was asked for longest ago
        assert memo(name, make(name)) == name
    assert made == ["a", "b", "c", "b"]

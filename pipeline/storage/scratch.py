"""Files for what memory need not hold: they have no name and are gone with the object that they belong to.

They lie where Python puts temporary files, which ``TMPDIR`` names.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast


def scratch_file(owner: object, content: str) -> BinaryIO:
    """A file that can be written and read, and is closed with `owner`.

    Raises:
        OSError: there is no folder for it; `content` says for what.
    """
    with naming_the_folder(content):
        file = cast(BinaryIO, tempfile.TemporaryFile(prefix="ssig-"))  # noqa: SIM115
    weakref.finalize(owner, _close, file)
    return file


@contextmanager
def naming_the_folder(content: str) -> Iterator[None]:
    """Says in an `OSError`, such as that of a full disk, which folder is to hold `content`, and how to choose it."""
    try:
        yield
    except OSError as error:
        where = f"{_folder()} for {content} (TMPDIR names another folder)"
        raise OSError(error.errno, f"{error.strerror}: {where}") from error


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return "no folder"


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # of a full disk, which was said when it was written
        file.close()

"""The index as pages read it: one read-only database that reaches no file but those of the runs.

People may type SQL, so the database itself is closed: external access is off, the runs are its only folders, its
configuration is locked, its memory and time are limited. Only a `SELECT` is executed.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from ssig.errors import SsigError

MEMORY = "512MB"
SECONDS = 5.0


class QueryError(SsigError):
    """SQL that was refused or failed; the message is for the person who typed it."""


class Database:
    """A read-only connection.

    Args:
        path: the index.
        folders: the folders that SQL may read: the runs.
        seconds: the most that a query may take.
        memory: the most memory that all queries take together, as DuckDB writes it.
    """

    def __init__(self, path: Path, folders: Sequence[str], seconds: float = SECONDS, memory: str = MEMORY) -> None:
        self._seconds = seconds
        threads = min(4, os.cpu_count() or 1)
        self._connection = duckdb.connect(
            str(path), read_only=True, config={"memory_limit": memory, "threads": threads}
        )
        local = [folder.rstrip("/") + "/" for folder in folders if "://" not in folder]
        listed = ", ".join("'" + folder.replace("'", "''") + "'" for folder in local)
        for setting in (
            "python_enable_replacements = false",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "allow_community_extensions = false",
            "max_temp_directory_size = '0B'",
            f"allowed_directories = [{listed}]",
            "enable_external_access = false",
            "lock_configuration = true",  # last: nothing can be set after it
        ):
            self._connection.execute(f"SET {setting}")

    @functools.cache  # noqa: B019 - there is one database, and it lasts as long as the process
    def columns(self, table: str) -> tuple[str, ...]:
        """The columns of a table."""
        sql = "SELECT column_name FROM information_schema.columns WHERE table_name = $name ORDER BY ordinal_position"
        return tuple(row[0] for row in self.rows(sql, {"name": table}))

    def close(self) -> None:
        self._connection.close()

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a `SELECT`.

        Raises:
            QueryError: it is not one statement that selects, it fails, or it takes too long.
        """
        with self._cursor() as cursor, self._told():
            _check(cursor, sql)
            return cursor.execute(sql, dict(parameters or {})).fetchall()

    def records(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The same, each row by the names of its columns."""
        with self._cursor() as cursor, self._told():
            _check(cursor, sql)
            result = cursor.execute(sql, dict(parameters or {}))
            names = [column[0] for column in result.description or ()]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def check(self, sql: str) -> None:
        """Refuses all but the text of one `SELECT`, without executing it.

        Raises:
            QueryError: it is something else, or cannot be parsed.
        """
        with self._cursor() as cursor, self._told():
            _check(cursor, sql)

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor whose query is interrupted when its time is over."""
        with self._connection.cursor() as cursor:
            timer = threading.Timer(self._seconds, cursor.interrupt)
            timer.daemon = True
            timer.start()
            try:
                yield cursor
            finally:
                timer.cancel()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except duckdb.InterruptException:
            raise QueryError(f"The query took longer than {self._seconds:g} s and was stopped.") from None
        except duckdb.Error as error:
            raise QueryError(str(error).strip()) from None


def _check(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuses all but one `SELECT`: a COPY could write into the runs."""
    statements = cursor.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryError("Only a condition is allowed here, as after WHERE; no statement of its own.")

"""Connections of the role lm_app for requests that are many and wait without a thread.

Every message to the database costs such a request more than what the database does for it. So what is asked often is
prepared once for each connection and carried out by name, in one message with the beginning of the transaction or with
its end.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from app.db import TENANT_SETTING, database_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    Connection = psycopg.AsyncConnection[tuple[Any, ...]]
    Cursor = psycopg.AsyncCursor[tuple[Any, ...]]
    Pool = AsyncConnectionPool[Connection]
    Value = str | int | bytes | Sequence[int] | None

MOST_CONNECTIONS: Final = 10
# A request that gets no connection for so long is told to come again.
PATIENCE_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Prepared:
    """A statement that every connection knows by name.

    Attributes:
        name: Its name.
        types: Of its parameters, as SQL calls them.
        query: With $1 and so on for the parameters.
    """

    name: str
    types: tuple[str, ...]
    query: str

    def call(self, *values: Value) -> bytes:
        """Write the statement that carries it out."""
        return f"EXECUTE {self.name}({', '.join(map(_literal, values))})".encode()


class WaitFirst(Exception):
    """A transaction takes something that is not there yet, and would hold its connection while that is waited for.

    Attributes:
        wait: To be awaited without the transaction, which then is begun again.
    """

    def __init__(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Say what to wait for."""
        super().__init__()
        self.wait = wait


_prepared: Final[list[Prepared]] = []


def prepare(name: str, types: Sequence[str], query: str) -> Prepared:
    """Let every connection that is opened from now on know a statement."""
    statement = Prepared(name, tuple(types), query)
    _prepared.append(statement)
    return statement


@dataclass(frozen=True)
class RequestTransaction:
    """A user's transaction.

    Attributes:
        connection: It runs on this.
        first: What the statement that it began with gave.
    """

    connection: Connection
    first: list[tuple[Any, ...]]

    async def finish(self, last: bytes) -> list[tuple[Any, ...]]:
        """Carry out a last statement and commit; return what it gave."""
        cursor = await self.connection.execute(last + b"; COMMIT")
        return await cursor.fetchall()


_pools: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Pool]] = WeakKeyDictionary()


async def request_pool() -> Pool:
    """Return the running event loop's pool, opened."""
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        _pools[loop] = AsyncConnectionPool(
            database_url("app").set(drivername="postgresql").render_as_string(hide_password=False),
            min_size=1,
            max_size=MOST_CONNECTIONS,
            timeout=PATIENCE_SECONDS,
            kwargs={"autocommit": True, "client_encoding": "utf8"},
            configure=_prepare_connection,
            open=False,
        )
        await _pools[loop].open()
    return _pools[loop]


async def close_request_pool() -> None:
    """Close the running event loop's pool; the next use opens another."""
    pool = _pools.pop(asyncio.get_running_loop(), None)
    if pool is not None:
        await pool.close()


async def ask_once(query: bytes) -> tuple[Any, ...] | None:
    """Run a query that is no tenant's, as a transaction of its own, and return its first row.

    Raises:
        psycopg.OperationalError: The database cannot be reached, or all connections stay busy.
    """
    pool = await request_pool()
    connection, cursor = await _begin(pool, query)
    try:
        return await cursor.fetchone()
    finally:
        await pool.putconn(connection)


@asynccontextmanager
async def request_transaction(user_id: int, first: bytes) -> AsyncIterator[RequestTransaction]:
    """Open a transaction that sees and changes one user's rows, with a first query; commit unless it raises.

    Raises:
        psycopg.OperationalError: The database cannot be reached, or all connections stay busy.
    """
    pool = await request_pool()
    begin = f"BEGIN; SET LOCAL {TENANT_SETTING} = '{user_id:d}'; ".encode()
    connection, cursor = await _begin(pool, begin + first)
    try:
        while cursor.nextset():
            pass
        yield RequestTransaction(connection, await cursor.fetchall())
    except BaseException:
        if connection.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
            await connection.execute("ROLLBACK")
        raise
    else:
        if connection.info.transaction_status != TransactionStatus.IDLE:
            await connection.execute("COMMIT")
    finally:
        await pool.putconn(connection)


async def _begin(pool: Pool, query: bytes) -> tuple[Connection, Cursor]:
    """Take a connection and run what comes first on it; those that were cut while they lay idle are passed over."""
    while True:
        connection = await pool.getconn()
        try:
            return connection, await connection.execute(query)
        except psycopg.OperationalError:
            await pool.putconn(connection)
            if not connection.closed:
                raise
        except BaseException:
            if connection.info.transaction_status == TransactionStatus.INERROR:
                await connection.execute("ROLLBACK")
            await pool.putconn(connection)
            raise


def _literal(value: Value) -> str:
    match value:
        case None:
            return "NULL"
        case bytes():
            return f"'\\x{value.hex()}'"
        case int():
            return f"{value:d}"
        case str():
            # With standard_conforming_strings, which is set for each connection, nothing but the quote is special.
            if "\0" in value:
                raise ValueError("PostgreSQL's text holds no NUL")
            return "'" + value.replace("'", "''") + "'"
    return "'{" + ",".join(f"{number:d}" for number in value) + "}'"


async def _prepare_connection(connection: Connection) -> None:
    # Requests ask the same things, of other ids: to plan that anew takes longer than to carry it out.
    await connection.execute("SET plan_cache_mode = force_generic_plan; SET standard_conforming_strings = on")
    # After a rollback the driver would forget whatever is prepared, ours too, if it prepared statements of its own.
    connection.prepare_threshold = None
    for statement in _prepared:
        types = ", ".join(statement.types)
        await connection.execute(f"PREPARE {statement.name} ({types}) AS {statement.query}".encode())

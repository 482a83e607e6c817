"""The floor that serving stands on: as little as an application can do that reads a row and keeps another.

One primary-key read and one durable insert for each request, by the driver that we use, under the server that we use;
no framework, no authentication, no validation, no policies.
"""

from __future__ import annotations

import json
import os
from typing import Any

from psycopg_pool import AsyncConnectionPool

CONNECTIONS = 8


class Floor:
    """The application."""

    def __init__(self) -> None:
        self.pool: AsyncConnectionPool[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or begin and end."""
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        assert self.pool is not None
        body = (await receive())["body"]
        (txn_id,) = json.loads(body)["txn_ids"]
        async with self.pool.connection() as connection:
            read = "SELECT description FROM floor_transactions WHERE id = %s"
            row = await (await connection.execute(read, [txn_id])).fetchone()
            insert = "INSERT INTO floor_events (txn_id) VALUES (%s) RETURNING id"
            event = await (await connection.execute(insert, [txn_id])).fetchone()
        answer = json.dumps({"event_id": event[0], "description": row[0]}).encode()
        length = [(b"content-length", str(len(answer)).encode()), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": answer})

    async def live(self, receive: Any, send: Any) -> None:
        """Open the pool when the server starts, close it when it ends."""
        await receive()
        self.pool = AsyncConnectionPool(os.environ["FLOOR_URL"], min_size=CONNECTIONS, max_size=CONNECTIONS, open=False)
        await self.pool.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.pool.close()
        await send({"type": "lifespan.shutdown.complete"})


app = Floor()

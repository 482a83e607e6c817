"""A load generator in a process of its own: keep-alive connections, each with one request under way at a time.

    python bench/load.py < plan.json > answers.json

The plan: port, path, token, txn_ids (lists, one drawn for each request), connections, seconds, and rate (requests per
second over all connections; null for as many as are answered). The answers: for each its start and end by the clock
that all processes of a machine share, its status, and the model's version that it names first.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from typing import Any

import uvloop

VERSION = re.compile(rb'"model_version":"(\d+)"')


class Connection(asyncio.Protocol):
    """One connection, asking again as soon as it is answered, or when its turn comes."""

    def __init__(self, plan: dict[str, Any], bodies: list[bytes], answers: list[list[Any]], until: float) -> None:
        self.plan, self.bodies, self.answers, self.until = plan, bodies, answers, until
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = bytearray()
        self.pause = plan["connections"] / plan["rate"] if plan["rate"] else 0.0
        self.transport: Any = None
        self.due = self.began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time, not all connections at once."""
        self.transport = transport
        self.due = time.monotonic() + random.random() * self.pause  # noqa: S311 -- no secret
        self.ask_when_due()

    def ask_when_due(self) -> None:
        """Ask, or wait until it is time to."""
        wait = self.due - time.monotonic() if self.pause else 0.0
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self.ask)
        else:
            self.ask()

    def ask(self) -> None:
        """Send a request."""
        self.began = time.monotonic()
        self.due += self.pause
        self.transport.write(random.choice(self.bodies))  # noqa: S311 -- the same

    def data_received(self, received: bytes) -> None:
        """Take an answer, once it is whole."""
        self.received += received
        head, _, body = bytes(self.received).partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if length is None or len(body) < int(length[1]):
            return
        version = VERSION.search(body)
        now = time.monotonic()
        self.answers.append([self.began, now, int(head[9:12]), int(version[1]) if version else None])
        self.received.clear()
        if now < self.until:
            self.ask_when_due()
        else:
            self.transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """Be done; a connection that was cut is a request that failed."""
        if time.monotonic() < self.until:
            self.answers.append([self.began, time.monotonic(), 0, None])
        if not self.done.done():
            self.done.set_result(None)


def request(plan: dict[str, Any], txn_ids: list[int]) -> bytes:
    """Write a request."""
    body = json.dumps({"txn_ids": txn_ids}).encode()
    head = (
        f"POST {plan['path']} HTTP/1.1\r\nHost: 127.0.0.1:{plan['port']}\r\nAuthorization: Bearer {plan['token']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(plan: dict[str, Any]) -> list[list[Any]]:
    """Carry out a plan."""
    answers: list[list[Any]] = []
    until = time.monotonic() + plan["seconds"]
    bodies = [request(plan, txn_ids) for txn_ids in plan["txn_ids"]]
    connections = [Connection(plan, bodies, answers, until) for _ in range(plan["connections"])]
    loop = asyncio.get_running_loop()
    for each in connections:
        await loop.create_connection(lambda each=each: each, "127.0.0.1", plan["port"])  # type: ignore[misc]
    await asyncio.gather(*(each.done for each in connections))
    return answers


if __name__ == "__main__":
    json.dump(uvloop.run(run(json.load(sys.stdin))), sys.stdout)

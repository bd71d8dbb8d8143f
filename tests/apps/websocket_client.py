"""Sends text and binary messages to websocket_server.py at HOST:PORT and checks the echo."""

import asyncio
import sys

from websockets.asyncio.client import connect


async def main():
    async with connect(f"ws://{sys.argv[1]}/chat", proxy=None) as connection:
        for length in (0, 1, 125, 126, 65536, 500_000):
            for message in ("x" * length, bytes(length)):
                await connection.send(message)
                assert await connection.recv() == message, length
        await connection.ping()
    print("echoed")


asyncio.run(main())

"""OpenAI's realtime API: a WebSocket (RFC 6455) that says `session.created` first and then every text back."""

import base64
import hashlib
import json

from .connection import Answer, ClientGone

# What a server adds to a client's key (RFC 6455 1.3).
SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
# Longest message that is taken, bytes.
MESSAGE_LIMIT = 1024 * 1024


def wanted(request):
    """Whether the connection is to become a WebSocket."""
    upgrade = (request.header("upgrade") or "").lower()
    return upgrade == "websocket" and request.header("sec-websocket-key") is not None


class Realtime:
    """One session, from its handshake to the end of its connection."""

    def __init__(self, connection, request, behaviour, bill):
        self.connection = connection
        self.request = request
        self.behaviour = behaviour
        self.bill = bill

    async def run(self, headers):
        """Ends when the client has gone, or after `cut` messages."""
        key = self.request.header("sec-websocket-key").encode()
        accept = base64.b64encode(hashlib.sha1(key + SALT).digest()).decode()
        protocols = (self.request.header("sec-websocket-protocol") or "").split(",")
        chosen = [("sec-websocket-protocol", protocols[0].strip())] if protocols[0].strip() else []
        answer = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", accept), *chosen]
        lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in [*answer, *headers])]
        await self.connection.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        created = {"type": "session.created", "session": {"object": "realtime.session", "model": self.bill.model}}
        await self.say(TEXT, json.dumps(created).encode())
        heard = 0
        while self.behaviour.cut is None or heard < self.behaviour.cut:
            kind, payload = await self.hear()
            if kind == CLOSE:
                await self.say(CLOSE, payload)
                break
            if kind == PING:
                await self.say(PONG, payload)
            if kind == TEXT:
                heard += 1
                await self.say(TEXT, payload)
        self.bill.end("broken" if self.behaviour.cut is not None else "finished")
        self.connection.close()

    async def say(self, kind, payload):
        length = len(payload)
        if length < 126:
            head = bytes([0x80 | kind, length])
        elif length < 1 << 16:
            head = bytes([0x80 | kind, 126]) + length.to_bytes(2, "big")
        else:
            head = bytes([0x80 | kind, 127]) + length.to_bytes(8, "big")
        await self.connection.write(head + payload)

    async def hear(self):
        """The next frame of the client, which masks each (RFC 6455 5.3)."""
        first, second = await self.take(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(await self.take(2 if length == 126 else 8), "big")
        if not second & 0x80 or length > MESSAGE_LIMIT:
            raise ClientGone
        mask = await self.take(4)
        masked = await self.take(length)
        return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))

    async def take(self, length):
        await self.connection.fill(length)
        return self.connection.take(length)


async def no_upgrade(connection):
    """The answer to who does not ask for a WebSocket."""
    body = json.dumps({"error": {"message": "Expected a WebSocket upgrade.", "type": "invalid_request_error"}}).encode()
    answer = Answer(connection)
    await answer.head(426, [("content-type", "application/json")], "length", len(body))
    await answer.piece(body)

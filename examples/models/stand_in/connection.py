"""HTTP/1.1 of a server, byte by byte: requests in, answers out in whatever framing a test wants."""

import asyncio
import http
import socket
import struct
import time
import traceback
import urllib.parse

# Longest head and body of a request that are taken, bytes.
HEAD_LIMIT = 256 * 1024
BODY_LIMIT = 256 * 1024 * 1024


def now_ms():
    """Milliseconds of the system's monotonic clock, which all processes of a machine share."""
    return time.monotonic() * 1000


class ClientGone(Exception):
    """The peer closed its connection."""


class Malformed(Exception):
    """The peer sent what is no HTTP/1.1 request."""


class Request:
    """A whole request."""

    def __init__(self, method, target, headers, body):
        self.method = method
        self.headers = headers
        self.body = body
        parts = urllib.parse.urlsplit(target)
        self.path = parts.path
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        self.at_ms = now_ms()

    def header(self, name):
        """Value of the first header of this name, in lower case; None where there is none."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def keeps_alive(self):
        return (self.header("connection") or "").lower() != "close"


class Connection(asyncio.Protocol):
    """A connection of a peer. `serve(connection)` runs once for it and ends when the peer has gone."""

    number = 0

    def __init__(self, serve):
        Connection.number += 1
        self.number = Connection.number
        self.serve = serve
        self.transport = None
        self.task = None
        self.received = bytearray()
        self.gone_ms = None
        self.loop = asyncio.get_running_loop()
        self.waiters = set()
        self.more = None
        self.flushed = None

    # What asyncio calls.

    def connection_made(self, transport):
        self.transport = transport
        self.task = self.loop.create_task(self.run())

    def data_received(self, data):
        self.received += data
        self.wake(self.more)

    def eof_received(self):
        self.left()

    def connection_lost(self, error):
        self.left()

    def pause_writing(self):
        self.flushed = self.loop.create_future()

    def resume_writing(self):
        self.wake(self.flushed)
        self.flushed = None

    # What the exchange uses.

    async def run(self):
        try:
            await self.serve(self)
        except (ClientGone, Malformed):
            pass
        except Exception:
            traceback.print_exc()
        finally:
            self.transport.close()

    def left(self):
        if self.gone_ms is None:
            self.gone_ms = now_ms()
        for waiter in list(self.waiters):
            self.wake(waiter)

    @staticmethod
    def wake(waiter):
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self, waiter):
        """Waits for it, or for the peer to go, which raises ClientGone."""
        if self.gone_ms is None:
            self.waiters.add(waiter)
            try:
                await waiter
            finally:
                self.waiters.discard(waiter)
        if self.gone_ms is not None:
            raise ClientGone

    async def pause(self, milliseconds):
        """Waits so long; None is for ever."""
        if milliseconds == 0:
            await asyncio.sleep(0)
            if self.gone_ms is not None:
                raise ClientGone
            return None
        waiter = self.loop.create_future()
        if milliseconds is None:
            return await self.wait(waiter)
        timer = self.loop.call_later(milliseconds / 1000, self.wake, waiter)
        try:
            await self.wait(waiter)
        finally:
            timer.cancel()

    async def write(self, data):
        """Sends, and waits while the peer takes no more."""
        if self.gone_ms is not None or self.transport.is_closing():
            raise ClientGone
        self.transport.write(data)
        if self.flushed is not None:
            await self.wait(self.flushed)

    async def fill(self, length):
        """Waits until so many bytes are there."""
        while len(self.received) < length:
            self.more = self.loop.create_future()
            await self.wait(self.more)

    async def line_end(self, mark, limit):
        """Where `mark` is, once it is there."""
        searched = 0
        while (found := self.received.find(mark, searched)) < 0:
            if len(self.received) > limit:
                raise Malformed
            searched = max(0, len(self.received) - len(mark))
            await self.fill(len(self.received) + 1)
        return found

    def take(self, length):
        taken = bytes(self.received[:length])
        del self.received[:length]
        return taken

    async def request(self):
        """The next request of the connection."""
        head = self.take(await self.line_end(b"\r\n\r\n", HEAD_LIMIT) + 4).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise Malformed
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise Malformed
            headers.append((name.lower(), value.strip()))
        request = Request(words[0], words[1], headers, b"")
        if (request.header("expect") or "").lower() == "100-continue":
            await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.body = await self.body(request)
        return request

    async def body(self, request):
        if (request.header("transfer-encoding") or "").lower() == "chunked":
            return await self.chunked_body()
        length = int(request.header("content-length") or 0)
        if length > BODY_LIMIT:
            raise Malformed
        await self.fill(length)
        return self.take(length)

    async def chunked_body(self):
        parts = []
        while True:
            line = self.take(await self.line_end(b"\r\n", 1024) + 2)
            length = int(line.split(b";")[0], 16)
            await self.fill(length + 2)
            parts.append(self.take(length))
            self.take(2)
            if length == 0:
                return b"".join(parts)

    async def reset(self):
        """Ends the connection by a reset, a moment after what was sent: a reset may discard what is still on its way."""
        await self.pause(30)
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
        raise ClientGone

    def close(self):
        """Ends the connection in order, without an end of the answer."""
        self.transport.close()
        raise ClientGone


class Answer:
    """An answer whose body comes in pieces."""

    def __init__(self, connection, split=None, split_at=()):
        self.connection = connection
        self.framing = None
        self.split = split
        self.split_at = sorted(split_at)
        self.sent = 0

    async def head(self, status, headers, framing="chunked", length=None):
        """Sends the head; framing is `chunked`, `length` (with the length) or `close`."""
        self.framing = framing
        try:
            reason = http.HTTPStatus(status).phrase
        except ValueError:
            reason = "Overloaded" if status == 529 else "Unknown"
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
        if framing == "chunked":
            lines.append("transfer-encoding: chunked")
        elif framing == "length":
            lines.append(f"content-length: {length}")
        else:
            lines.append("connection: close")
        await self.connection.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def piece(self, data):
        """Sends a part of the body, in as many writes as the split says."""
        for part in self.parts(data):
            framed = b"%x\r\n%b\r\n" % (len(part), part) if self.framing == "chunked" else part
            await self.connection.write(framed)
            if self.split or self.split_at:
                await asyncio.sleep(0)
        self.sent += len(data)

    def parts(self, data):
        if self.split:
            return [data[at : at + self.split] for at in range(0, len(data), self.split)]
        cuts = [at - self.sent for at in self.split_at if 0 < at - self.sent < len(data)]
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)])] if data else []

    async def end(self):
        """Ends the body in order; a body that ends with its connection ends that."""
        if self.framing == "chunked":
            await self.connection.write(b"0\r\n\r\n")
        elif self.framing == "close":
            self.connection.close()

#!/usr/bin/env python3
"""A stand-in for providers of language models: `provider.py --listen openai=127.0.0.1:9001,provider=openai,key=sk-1 ...`.

Each target is a name, an address, whose provider's wire format it speaks, and the key that it wants. What it does with
requests is set by `POST /stand-in/behave`; see stand_in/README.md. Needs Python 3.10 and nothing else.
"""

import argparse
import asyncio
import dataclasses
import json
import signal
import socket
import ssl

from stand_in import requests
from stand_in.behaviour import Behaviours, Unknown
from stand_in.connection import Answer, Connection
from stand_in.exchange import Exchange
from stand_in.ledger import Ledger

# Connections that wait to be taken.
BACKLOG = 4096


@dataclasses.dataclass
class Target:
    """A provider that is stood in for."""

    name: str
    host: str
    port: int
    provider: str = "any"
    key: str = ""
    models: tuple = ("small", "large")
    tls: bool = False
    behaviours: Behaviours = dataclasses.field(default_factory=Behaviours)
    server: object = None
    # Sockets that keep a black hole full.
    hole: list = dataclasses.field(default_factory=list)
    connections: set = dataclasses.field(default_factory=set)

    @classmethod
    def read(cls, text):
        """From `name=ip:port[,provider=P][,key=K][,models=a+b][,tls]`."""
        name, _, rest = text.partition("=")
        address, *options = rest.split(",")
        host, _, port = address.rpartition(":")
        target = cls(name, host, int(port))
        for option in options:
            key, _, value = option.partition("=")
            if key == "provider" and value in requests.PROVIDERS:
                target.provider = value
            elif key == "key":
                target.key = value
            elif key == "models":
                target.models = tuple(value.split("+"))
            elif key == "tls":
                target.tls = True
            else:
                raise argparse.ArgumentTypeError(f"{name} has no option {option!r}")
        return target


class StandIn:
    """All targets of the process."""

    def __init__(self, targets, context):
        self.targets = {target.name: target for target in targets}
        self.context = context
        self.ledger = Ledger()

    async def open(self, target, asking=None):
        """Takes connections."""
        self.shut(target, asking)
        target.server = await asyncio.get_running_loop().create_server(
            lambda: Connection(lambda connection: self.serve(target, connection)),
            target.host,
            target.port,
            backlog=BACKLOG,
            ssl=self.context if target.tls else None,
            reuse_address=True,
        )

    def shut(self, target, asking=None):
        """Refuses connections and cuts those that are open, but the one that asks for it."""
        if target.server:
            target.server.close()
        for connection in target.connections - {asking}:
            connection.transport.abort()
        for held in target.hole:
            held.close()
        target.server, target.hole = None, []

    def swallow(self, target, asking):
        """A black hole: whoever connects is never answered, because the queue of the socket is full."""
        self.shut(target, asking)
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((target.host, target.port))
        listening.listen(0)
        target.hole = [listening]
        for _ in range(3):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex((target.host, target.port))
            target.hole.append(waiting)

    async def serve(self, target, connection):
        target.connections.add(connection)
        try:
            while True:
                request = await connection.request()
                if request.path.startswith("/stand-in/"):
                    await self.control(connection, request)
                elif not await Exchange(target, connection, request, self.ledger).run():
                    return
        finally:
            target.connections.discard(connection)

    # What a test asks.

    async def control(self, connection, request):
        try:
            status, fields = 200, await self.order(request, connection)
        except (Unknown, KeyError, TypeError, ValueError, OSError) as error:
            status, fields = 400, {"error": f"{type(error).__name__}: {error}"}
        body = json.dumps(fields).encode()
        answer = Answer(connection)
        await answer.head(status, [("content-type", "application/json")], "length", len(body))
        await answer.piece(body)

    async def order(self, request, connection):
        what = request.path.removeprefix("/stand-in/")
        if request.method == "GET" and what in ("billed", "seen"):
            return self.ledger.page(what, request.query.get("target"))
        if request.method == "GET" and what == "state":
            running = sum(1 for bill in self.ledger.bills if bill.outcome == "running")
            counted = {name: len(target.connections) for name, target in self.targets.items()}
            return {"running": running, "connections": counted}
        if request.method != "POST":
            raise KeyError(request.path)
        order = json.loads(request.body or b"{}")
        if what == "behave":
            for name in [order["target"]] if order.get("target", "*") != "*" else self.targets:
                self.targets[name].behaviours.set(order)
        elif what == "reach":
            await self.reach(self.targets[order["target"]], order["as"], connection)
        elif what == "forget":
            self.ledger.clear()
        else:
            raise KeyError(request.path)
        return {"ok": True}

    async def reach(self, target, how, asking):
        """`open`, `refused` or `black_hole`, by an order that came on a connection that may be the target's own."""
        if how == "open":
            await self.open(target, asking)
        elif how == "refused":
            self.shut(target, asking)
        elif how == "black_hole":
            self.swallow(target, asking)
        else:
            raise Unknown(f"no target can be reached as {how!r}")


def tls_context(certificate, key):
    """TLS that remembers which name was asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])

    def asked(session, name, _):
        session.asked_name = name

    context.sni_callback = asked
    return context


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", action="append", type=Target.read, required=True, metavar="NAME=IP:PORT[,...]")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    arguments = parser.parse_args()
    context = tls_context(*arguments.tls) if arguments.tls else None
    stand_in = StandIn(arguments.listen, context)
    for target in arguments.listen:
        await stand_in.open(target)
        scheme = "https" if target.tls else "http"
        print(f"{target.name}: {scheme}://{target.host}:{target.port}", flush=True)
    print("ready", flush=True)
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())

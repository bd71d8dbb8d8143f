"""One request of one target: refused, answered, or answered badly as its behaviour says."""

import json

from . import plan, realtime, requests
from .connection import Answer, ClientGone
from .dialects import Frame
from .dialects.chat import Chat, Completions, Embeddings
from .dialects.gemini import Gemini
from .dialects.messages import Messages
from .dialects.responses import Responses
from .refusals import BY_STATUS, Refusal, family, headers

DIALECTS = {
    "chat": Chat,
    "completions": Completions,
    "embeddings": Embeddings,
    "responses": Responses,
    "messages": Messages,
    "gemini": Gemini,
    "gemini-array": Gemini,
}
PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body><h1>Please sign in</h1></body></html>\n"
# Pause between pings where a behaviour names none, milliseconds.
PING_MS = 200
# Pings of an answer that has nothing else.
PINGS = 3
# Bytes of an event that never ends.
ENDLESS = 3 * 1024 * 1024


class Exchange:
    """Its parts share what they found out."""

    def __init__(self, target, connection, request, ledger):
        self.target = target
        self.connection = connection
        self.request = request
        self.ledger = ledger
        self.number = ledger.count()
        self.found = None
        self.ask = None
        self.behaviour = None
        self.bill = None
        self.answer = Answer(connection)
        self.events = 0

    async def run(self):
        """Answers; returns whether the connection may serve another request."""
        request, target = self.request, self.target
        self.ledger.seen(self.number, target.name, self.connection, request)
        self.found = requests.route(target.provider, request.path, request.query)
        if self.found is None:
            self.found = requests.Route("none", "openai" if target.provider == "any" else target.provider)
            await self.refuse("not_found", message=f"Unknown request URL: {request.method} {request.path}.", status=404)
            return request.keeps_alive
        if not await self.is_known():
            return request.keeps_alive
        if self.found.api in ("models", "gemini-models"):
            await self.models()
            return request.keeps_alive
        if self.found.api == "realtime":
            return await self.realtime()
        try:
            self.ask = requests.read(self.found, request.body)
        except requests.Invalid as error:
            await self.refuse("bad_request", message=str(error))
            return request.keeps_alive
        self.behaviour = target.behaviours.take(target.name, " ".join(self.ask.prompt) if b"<<" in request.body else "")
        self.bill = self.ledger.bill(self.number, target.name, self.found, self.ask)
        try:
            await self.behave()
        except ClientGone:
            if self.bill.outcome == "running":
                self.bill.gone_ms = self.connection.gone_ms
                self.bill.end("gone")
            raise
        return request.keeps_alive and self.behaviour.close is None

    async def realtime(self):
        """A WebSocket; refused, or not answered, as an answer of any other API is."""
        if not realtime.wanted(self.request):
            await realtime.no_upgrade(self.connection)
            return self.request.keeps_alive
        self.ask = requests.Ask(self.request.query.get("model", ""), True)
        self.behaviour = behaviour = self.target.behaviours.take(self.target.name, "")
        self.bill = self.ledger.bill(self.number, self.target.name, self.found, self.ask)
        try:
            if behaviour.hang:
                await self.connection.pause(behaviour.hang_ms)
            if behaviour.status or behaviour.error:
                kind = behaviour.error or BY_STATUS.get(behaviour.status, "server")
                await self.refuse(kind, status=behaviour.status)
                return self.request.keeps_alive
            await realtime.Realtime(self.connection, self.request, behaviour, self.bill).run(headers(behaviour.headers))
        except ClientGone:
            if self.bill.outcome == "running":
                self.bill.gone_ms = self.connection.gone_ms
                self.bill.end("gone")
            raise
        return False

    async def is_known(self):
        """Whether the credential is right; refuses when it is not."""
        if not self.target.key:
            return True
        shown = requests.shown_key(self.found.provider, self.request)
        if shown == self.target.key:
            if self.found.provider == "anthropic" and not self.request.header("anthropic-version"):
                await self.refuse("bad_request", message="anthropic-version: header is required")
                return False
            return True
        if shown is None and self.found.provider == "gemini":
            await self.refuse("permission")
        else:
            await self.refuse("auth", message=None if shown else "You didn't provide an API key.")
        return False

    def refusal(self, kind, **more):
        ask = self.ask
        model, tokens = (ask.model, ask.input_tokens) if ask else ("", 0)
        form = self.behaviour.error_form if self.behaviour else None
        provider = self.found.provider
        return Refusal(provider, kind, self.number, model=model, tokens=tokens, form=form, **more)

    async def refuse(self, kind, **more):
        refusal = self.refusal(kind, **more)
        if self.bill:
            self.bill.end("refused")
        await self.json(refusal.status, refusal.body())

    async def json(self, status, fields):
        await self.whole_body(status, "application/json", json.dumps(fields).encode())

    def heads(self, content_type):
        name = "request-id" if family(self.found.provider) == 1 else "x-request-id"
        shown = [("content-type", content_type), (name, f"req_{self.number:024x}")]
        if self.behaviour is None:
            return shown
        closing = [("connection", "close")] if self.behaviour.close == "told" else []
        return shown + closing + headers(self.behaviour.headers)

    async def whole_body(self, status, content_type, body, sent=None):
        """A body of known length; `sent` is less than all of it where it breaks off."""
        await self.answer.head(status, self.heads(content_type), "length", len(body))
        await self.answer.piece(body[:sent])

    async def models(self):
        names = self.target.models
        if self.found.provider == "gemini":
            return await self.json(200, {"models": [{"name": f"models/{name}", "displayName": name} for name in names]})
        data = [{"id": name, "object": "model", "created": 1700000000, "owned_by": self.target.name} for name in names]
        await self.json(200, {"object": "list", "data": data})

    # What a behaviour says.

    async def behave(self):
        behaviour = self.behaviour
        self.answer = Answer(self.connection, behaviour.split, behaviour.split_at)
        if behaviour.hang == "headers":
            await self.connection.pause(behaviour.hang_ms)
        within = behaviour.instead in ("error", "error_object") or behaviour.how == "error"
        if behaviour.refuses and behaviour.refuses in json.loads(self.request.body):
            message = f"Unrecognized request argument supplied: {behaviour.refuses}"
            return await self.refuse("bad_request", message=message)
        is_blocked = behaviour.error == "content_filter" and self.found.provider == "gemini"
        if behaviour.status or (behaviour.error and not within and not is_blocked):
            kind = behaviour.error or BY_STATUS.get(behaviour.status, "server")
            return await self.refuse(kind, status=behaviour.status)
        if is_blocked and not within:
            return await self.blocked()
        made = plan.plan(self.ask, behaviour)
        self.bill.prompt = made.input
        if self.found.api.endswith("-count"):
            name = "totalTokens" if self.found.provider == "gemini" else "input_tokens"
            self.bill.end("finished")
            return await self.json(200, {name: made.input})
        dialect = DIALECTS[self.found.api](self.ask, made, behaviour, self.number, self.target.name)
        if self.ask.stream:
            await self.stream(dialect)
        else:
            await self.whole(dialect)
        if self.bill.outcome == "running":
            self.bill.end("broken" if behaviour.instead else "finished")

    async def blocked(self):
        """Gemini's way to refuse a prompt: 200, without a candidate."""
        blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": self.ask.model}
        self.bill.end("refused")
        if self.found.api != "gemini" or not self.ask.stream:
            return await self.json(200, blocked)
        await self.answer.head(200, self.heads("text/event-stream"))
        await self.answer.piece(Frame("final", blocked).encode("\r\n", True))
        await self.answer.end()

    async def html(self):
        self.bill.end("broken")
        await self.whole_body(200, "text/html; charset=utf-8", PAGE)

    def embedded(self):
        return self.refusal(self.behaviour.error or "server")

    # An answer that is not a stream.

    async def whole(self, dialect):
        behaviour, made = self.behaviour, dialect.plan
        await self.connection.pause(behaviour.first_delay_ms + behaviour.delay_ms * made.output)
        if behaviour.hang in ("body", "pings", "role"):
            await self.answer.head(200, self.heads("application/json"), "chunked")
            await self.hang(behaviour.hang_ms, b"\n" if behaviour.hang == "pings" or behaviour.ping_ms else None)
        body = dialect.body(self.fields(dialect))
        if behaviour.instead == "html":
            return await self.html()
        if behaviour.instead in ("empty", "done", "pings"):
            body = {"empty": b"", "done": b"[DONE]", "pings": b"\n" * PINGS}[behaviour.instead]
        if behaviour.cut is not None:
            return await self.broken_whole(body)
        if self.answer.framing:
            await self.answer.piece(body)
            await self.answer.end()
        elif behaviour.framing == "close":
            await self.answer.head(200, self.heads("application/json"), "close")
            await self.answer.piece(body)
        else:
            await self.whole_body(200, "application/json", body)
        if behaviour.instead is None:
            self.bill.charge(made.output)
        self.bill.end("broken" if behaviour.instead else "finished")
        if self.answer.framing == "close":
            await self.answer.end()

    def fields(self, dialect):
        instead = self.behaviour.instead
        if instead in ("error", "error_object"):
            return self.embedded().body()
        if instead in ("null_choices", "empty_choices"):
            return dialect.hollow(None if instead == "null_choices" else [])
        if instead in ("finish", "head"):
            dialect.say_nothing()
        return dialect.whole()

    async def broken_whole(self, body):
        """Half of the body, and an end of the wanted kind."""
        how, half = self.behaviour.how, len(body) // 2
        self.bill.end("broken")
        if how == "error":
            return await self.json(200, self.embedded().body())
        if how == "end":
            return await self.whole_body(200, "application/json", body[:half])
        await self.whole_body(200, "application/json", body, half)
        await self.break_off()

    async def break_off(self):
        self.bill.end("broken")
        if self.behaviour.how == "reset":
            await self.connection.reset()
        self.connection.close()

    # A stream.

    async def stream(self, dialect):
        behaviour = self.behaviour
        if behaviour.instead == "html":
            return await self.html()
        if behaviour.instead == "error_object":
            self.bill.end("broken")
            return await self.json(200, self.embedded().body())
        is_array = self.found.api == "gemini-array"
        kind = "application/json" if is_array else "text/event-stream; charset=utf-8"
        await self.answer.head(200, [*self.heads(kind), ("cache-control", "no-cache")], behaviour.framing)
        if behaviour.cut == -1:
            return await self.cut()
        if behaviour.hang in ("body", "pings"):
            await self.hang(behaviour.hang_ms, self.ping() if behaviour.hang == "pings" or behaviour.ping_ms else None)
        await self.frames(dialect, is_array)
        if self.connection.gone_ms is None and self.bill.outcome == "running":
            if is_array:
                await self.answer.piece(b"]")
            self.bill.end("broken" if behaviour.instead else "finished")
            await self.answer.end()

    async def frames(self, dialect, is_array):
        behaviour, started = self.behaviour, False
        hung = behaviour.hang != "role"
        for frame in self.wanted(dialect):
            substance = frame.kind in ("token", "tail", "final")
            if substance and not hung:
                hung = True
                await self.hang(behaviour.hang_ms, self.ping() if behaviour.ping_ms else None)
            if substance and behaviour.bad and self.bill.output >= behaviour.bad_after:
                await self.bad()
                behaviour.bad = None
                if self.bill.outcome != "running":
                    return
            if substance and behaviour.cut is not None and self.bill.output >= behaviour.cut:
                return await self.cut()
            if substance and behaviour.stall is not None and self.bill.output >= behaviour.stall:
                await self.hang(None, self.ping() if behaviour.ping_ms else None)
            if frame.kind == "token":
                await self.connection.pause(behaviour.delay_ms if started else behaviour.first_delay_ms)
                started = True
            await self.send(frame, dialect, is_array)
            if frame.kind == "token" or (frame.event == "message_start" and frame.data["message"].get("usage")):
                self.bill.charge(frame.tokens)

    def wanted(self, dialect):
        """The events of this behaviour."""
        instead = self.behaviour.instead
        if instead == "empty":
            return []
        if instead == "pings":
            return [Frame("ping", None)] * PINGS
        if instead == "done":
            return [Frame("done", "[DONE]")]
        if instead == "error":
            event, data = self.embedded().event(self.found.api)
            return [Frame("head", data, event)]
        if instead in ("null_choices", "empty_choices"):
            return dialect.hollow_frames(None if instead == "null_choices" else [])
        if instead in ("finish", "head"):
            dialect.say_nothing()
        frames = dialect.frames()
        return [frame for frame in frames if frame.kind in ("head", "ping")] if instead == "head" else frames

    async def send(self, frame, dialect, is_array):
        if is_array:
            data = json.dumps(frame.data, indent=2).encode()
            return await self.event((b",\r\n" if self.events else b"[") + data)
        if frame.data is None:
            return await self.event(self.ping())
        if self.behaviour.comments:
            await self.answer.piece(b": a comment\n\n")
        await self.event(frame.encode(self.behaviour.line_end or dialect.line_end, dialect.spaced))

    async def event(self, data):
        await self.answer.piece(data)
        self.events += 1

    def ping(self):
        return b'event: ping\ndata: {"type": "ping"}\n\n' if self.found.provider == "anthropic" else b": keep-alive\n\n"

    async def hang(self, milliseconds, ping):
        """Says nothing for so long, but pings where there are any; None is for ever."""
        every = self.behaviour.ping_ms or PING_MS
        if ping is None:
            return await self.connection.pause(milliseconds)
        passed = 0
        while milliseconds is None or passed < milliseconds:
            await self.answer.piece(ping)
            await self.connection.pause(every)
            passed += every

    async def cut(self):
        how = self.behaviour.how
        if how == "error":
            event, data = self.embedded().event(self.found.api, self.events)
            await self.answer.piece(Frame("head", data, event).encode("\n", False))
        if how in ("error", "end"):
            self.bill.end("broken")
            return await self.answer.end()
        await self.break_off()

    async def bad(self):
        bad = self.behaviour.bad
        if bad == "json":
            return await self.answer.piece(b'data: {"id": "broken", "choices": [{"delta"\n\n')
        if bad == "binary":
            return await self.answer.piece(b'data: {"id": "\xff\xfe\x00", "choices": []}\n\n')
        if bad == "half":
            await self.answer.piece(b'data: {"id": "half')
            self.bill.end("broken")
            return await self.answer.end()
        await self.answer.piece(b'data: {"id": "')
        for _ in range(ENDLESS // 65536):
            await self.answer.piece(b"x" * 65536)
        await self.hang(None, None)

"""What was received and what is billed."""

import collections
import hashlib

from .connection import now_ms

# Entries that are kept of each; the oldest go first.
KEPT = 50_000
# Longest body that is kept as text, bytes.
BODY_KEPT = 16 * 1024


class Bill:
    """What one request costs. A stream is billed from its first token on, or from when it told its usage (Anthropic's do so
    at their beginning): its prompt, and what was sent of the answer. An answer that is not a stream is billed when all of
    it was sent."""

    def __init__(self, number, target, found, ask):
        self.number = number
        self.target = target
        self.found = found
        self.model = ask.model
        self.stream = ask.stream
        self.prompt = 0
        self.output = 0
        self.sent = 0
        # `running`, then `finished`, `refused`, `broken` (as the behaviour wanted it) or `gone` (the client closed).
        self.outcome = "running"
        self.started_ms = now_ms()
        self.ended_ms = None
        self.gone_ms = None

    def charge(self, output):
        """Bills the prompt and so many more tokens."""
        self.output += output
        self.sent = 1

    def end(self, outcome):
        self.outcome = outcome
        self.ended_ms = now_ms()

    def shown(self):
        return {
            "id": self.number,
            "target": self.target,
            "provider": self.found.provider,
            "api": self.found.api,
            "model": self.model,
            "stream": self.stream,
            "input": self.prompt if self.sent else 0,
            "output": self.output,
            "outcome": self.outcome,
            "cancelled": self.outcome == "gone",
            "started_ms": self.started_ms,
            "ended_ms": self.ended_ms,
            "gone_ms": self.gone_ms,
        }


class Ledger:
    """Of all targets of the process."""

    def __init__(self):
        self.clear()
        self.number = 0

    def clear(self):
        self.bills = collections.deque(maxlen=KEPT)
        self.requests = collections.deque(maxlen=KEPT)

    def count(self):
        self.number += 1
        return self.number

    def bill(self, number, target, found, ask):
        bill = Bill(number, target, found, ask)
        self.bills.append(bill)
        return bill

    def seen(self, number, target, connection, request):
        """Keeps what was received."""
        tls = connection.transport.get_extra_info("ssl_object")
        body = request.body
        self.requests.append(
            {
                "id": number,
                "target": target,
                "connection": connection.number,
                "method": request.method,
                "path": request.path,
                "query": request.query,
                "headers": request.headers,
                "body_length": len(body),
                "body_sha256": hashlib.sha256(body).hexdigest(),
                "body": body.decode("utf-8", "replace") if len(body) <= BODY_KEPT else None,
                "tls": {"name": getattr(tls, "asked_name", None), "version": tls.version()} if tls else None,
                "at_ms": request.at_ms,
            }
        )

    def page(self, what, target):
        """Entries of `billed` or `seen`, of one target or all."""
        shown = [bill.shown() for bill in self.bills] if what == "billed" else list(self.requests)
        return {"now_ms": now_ms(), what: [entry for entry in shown if target in (None, entry["target"])]}

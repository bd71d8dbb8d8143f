"""What a target does with a request: what it answers, how fast, and what goes wrong."""

import collections
import dataclasses
import json
import re

# A behaviour written into a prompt: `<<NAME {...}>>` for the target of this name, `<<* {...}>>` for every one.
DIRECTIVE = re.compile(r"<<(\S+) (\{.*?\})>>", re.DOTALL)


class Unknown(ValueError):
    """No such behaviour."""


@dataclasses.dataclass
class Behaviour:
    """stand_in/README.md has a sentence about each."""

    # Refusals.
    status: int | None = None
    error: str | None = None
    error_form: str | None = None
    refuses: str | None = None
    headers: dict = dataclasses.field(default_factory=dict)
    # Before the first token.
    hang: str | None = None
    hang_ms: float | None = None
    ping_ms: float | None = None
    instead: str | None = None
    # After it.
    cut: int | None = None
    how: str = "close"
    stall: int | None = None
    bad: str | None = None
    bad_after: int = 0
    # The answer.
    tokens: int = 20
    text: str | None = None
    reasoning: int = 0
    calls: int = 1
    finish: str | None = None
    delay_ms: float = 0
    first_delay_ms: float = 0
    comments: bool = False
    # Its usage.
    usage: str = "auto"
    usage_pad: int = 0
    input: int | None = None
    # Its bytes.
    split: int | None = None
    split_at: list = dataclasses.field(default_factory=list)
    framing: str = "chunked"
    line_end: str | None = None
    close: str | None = None

    CHOICES = {
        "error": {None, "bad_request", "auth", "permission", "not_found", "rate", "quota", "server", "overloaded",
                  "context", "content_filter"},
        "error_form": {None, "flat", "failed", "unnamed"},
        "hang": {None, "headers", "body", "pings", "role"},
        "instead": {None, "error", "empty", "pings", "done", "html", "error_object", "null_choices", "empty_choices",
                    "finish", "head"},
        "how": {"close", "reset", "end", "error"},
        "bad": {None, "json", "half", "endless", "binary"},
        "usage": {"auto", "absent", "null", "every", "last", "separate"},
        "framing": {"chunked", "close"},
        "line_end": {None, "\n", "\r\n", "\r"},
        "close": {None, "told", "untold"},
    }

    @classmethod
    def read(cls, fields):
        """A behaviour from JSON; raises Unknown for a field or value that there is not."""
        names = {field.name for field in dataclasses.fields(cls)}
        for name, value in fields.items():
            if name not in names:
                raise Unknown(f"no behaviour has the field {name!r}")
            if name in cls.CHOICES and value not in cls.CHOICES[name]:
                raise Unknown(f"{name} is not {value!r}: one of {sorted(map(str, cls.CHOICES[name]))}")
        return cls(**fields)


class Behaviours:
    """Of one target: those for the next requests, one each, then the standing one."""

    def __init__(self):
        self.standing = {}
        self.next = collections.deque()

    def set(self, order):
        """`{"next": [...]}` adds for requests to come, `{"standing": {...}}` replaces, `{"clear": true}` forgets all."""
        for fields in [*order.get("next", []), order.get("standing") or {}]:
            Behaviour.read(fields)
        if order.get("clear"):
            self.standing = {}
            self.next.clear()
        if "standing" in order:
            self.standing = order["standing"] or {}
        self.next.extend(order.get("next", []))

    def take(self, name, prompt):
        """For a request with this prompt: what the prompt says, over what was set."""
        fields = self.next.popleft() if self.next else self.standing
        if "<<" in prompt:
            for target, directive in DIRECTIVE.findall(prompt):
                if target in (name, "*"):
                    fields = {**fields, **json.loads(directive)}
        return Behaviour.read(fields)

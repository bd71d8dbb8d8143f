"""Answers as providers write them. Each dialect makes a whole answer (`whole`), the events of a stream (`frames`), and the
hollow forms of both that carry nothing (`hollow`, `hollow_frames`)."""

import dataclasses
import json
import time
import typing


class Frame(typing.NamedTuple):
    """An event of a stream.

    Its kind is `head` (before any token), `ping`, `token`, `tail` (after the last token), `final` (by which a client knows
    that the answer is complete) or `done` (after that).
    """

    kind: str
    data: object
    event: str | None = None
    tokens: int = 0

    def encode(self, line_end, spaced):
        separators = (", ", ": ") if spaced else (",", ":")
        data = self.data if isinstance(self.data, str) else json.dumps(self.data, separators=separators)
        event = f"event: {self.event}{line_end}" if self.event else ""
        return f"{event}data: {data}{line_end}{line_end}".encode()


class Dialect:
    """What all have in common."""

    line_end = "\n"
    spaced = False
    indent = None
    # Whether it shows tokens of reasoning.
    reasons = True

    def __init__(self, ask, plan, behaviour, number, target):
        self.ask = ask
        self.plan = plan if self.reasons else dataclasses.replace(plan, reasoning=[])
        self.behaviour = behaviour
        self.number = number
        self.target = target
        self.created = int(time.time())
        self.produced = 0

    def say_nothing(self):
        """Leaves an answer without a token, for which nothing is billed and so no usage is told."""
        self.plan = dataclasses.replace(self.plan, text=[], calls=[], reasoning=[])
        self.behaviour = dataclasses.replace(self.behaviour, usage="absent")

    def name(self, prefix, more=0):
        """An id that no other answer has."""
        return f"{prefix}{self.number:08x}{more:04x}"

    def body(self, fields):
        """A whole answer's bytes."""
        separators = None if self.indent or self.spaced else (",", ":")
        return json.dumps(fields, indent=self.indent, separators=separators).encode()

    def token(self, data, event=None, tokens=1):
        """A token event; counts as produced what it carries before it is built: call it with a function."""
        self.produced += tokens
        return Frame("token", data() if callable(data) else data, event, tokens)

    @property
    def padding(self):
        return {"padding": "x" * self.behaviour.usage_pad} if self.behaviour.usage_pad else {}

"""OpenAI's chat completions and completions, also as DashScope, vLLM and Azure speak them, and embeddings."""

import base64
import struct

from . import Dialect, Frame

FINISH = {"stop": "stop", "length": "length", "tool": "tool_calls", "content_filter": "content_filter"}
# Numbers of an embedding.
DIMENSIONS = 8


class Chat(Dialect):
    """/v1/chat/completions"""

    indent = 2
    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl-"

    def usage(self, output):
        plan = self.plan
        reasoning = min(output, len(plan.reasoning))
        return {
            "prompt_tokens": plan.input,
            "completion_tokens": output,
            "total_tokens": plan.input + output,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, **self.padding},
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
        }

    def envelope(self, kind, choices):
        return {
            "id": self.name(self.prefix),
            "object": kind,
            "created": self.created,
            "model": self.plan.model,
            "system_fingerprint": f"fp_{self.target}",
            "choices": choices,
        }

    def finished(self):
        return FINISH[self.plan.finish]

    def choice(self):
        plan = self.plan
        message = {"role": "assistant", "content": "".join(plan.text) if not plan.calls else None, "refusal": None}
        if plan.reasoning:
            message["reasoning_content"] = "".join(plan.reasoning)
        if plan.calls:
            message["tool_calls"] = [
                {
                    "id": self.name("call_", at),
                    "type": "function",
                    "function": {"name": call.name, "arguments": "".join(call.pieces)},
                }
                for at, call in enumerate(plan.calls)
            ]
        return {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finished()}

    def whole(self):
        fields = self.envelope(self.kind, [self.choice()])
        if self.behaviour.usage == "null":
            fields["usage"] = None
        elif self.behaviour.usage != "absent":
            fields["usage"] = self.usage(self.plan.output)
        return fields

    def hollow(self, choices):
        """Nothing is billed for it, so it tells no usage."""
        fields = {**self.whole(), "choices": choices}
        fields.pop("usage", None)
        return fields

    def hollow_frames(self, choices):
        yield Frame("head", self.chunk_of(choices))
        yield Frame("done", "[DONE]")

    def chunk_of(self, choices, last=False):
        """A chunk with the usage that this stream shows in each."""
        form = self.behaviour.usage
        fields = self.envelope(self.chunk_kind, choices)
        if form == "every" or (form == "auto" and self.ask.continuous_usage) or (form == "last" and last):
            fields["usage"] = self.usage(self.produced)
        elif form == "null" or (form == "auto" and self.ask.usage):
            fields["usage"] = None
        return fields

    def delta(self, delta, finish=None):
        return self.chunk_of([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], bool(finish))

    def frames(self):
        yield Frame("head", self.delta({"role": "assistant", "content": "", "refusal": None}))
        yield from self.deltas()
        yield Frame("final", self.delta({}, self.finished()))
        yield from self.after()

    def after(self):
        if self.behaviour.usage == "separate" or (self.behaviour.usage == "auto" and self.ask.usage):
            yield Frame("tail", {**self.envelope(self.chunk_kind, []), "usage": self.usage(self.produced)})
        yield Frame("done", "[DONE]")

    def deltas(self):
        for piece in self.plan.reasoning:
            yield self.token(lambda: self.delta({"reasoning_content": piece}))
        for piece in self.plan.text:
            yield self.token(lambda: self.delta({"content": piece}))
        for at, call in enumerate(self.plan.calls):
            function = {"name": call.name, "arguments": ""}
            first = {"index": at, "id": self.name("call_", at), "type": "function", "function": function}
            yield self.token(lambda: self.delta({"tool_calls": [first]}), tokens=0)
            for piece in call.pieces:
                more = {"index": at, "function": {"arguments": piece}}
                yield self.token(lambda: self.delta({"tool_calls": [more]}))


class Completions(Chat):
    """/v1/completions"""

    kind, chunk_kind, prefix = "text_completion", "text_completion", "cmpl-"
    reasons = False

    def choice(self):
        return {"text": "".join(self.plan.text), "index": 0, "logprobs": None, "finish_reason": self.finished()}

    def frames(self):
        for piece in self.plan.text:
            yield self.token(lambda: self.text(piece, None))
        yield Frame("final", self.text("", self.finished()))
        yield from self.after()

    def text(self, piece, finish):
        return self.chunk_of([{"text": piece, "index": 0, "logprobs": None, "finish_reason": finish}], bool(finish))


class Embeddings(Dialect):
    """/v1/embeddings"""

    indent = 2

    def whole(self):
        numbers = [round(1 / (at + 1), 4) for at in range(DIMENSIONS)]
        packed = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *numbers)).decode()
        shown = packed if self.ask.base64 else numbers
        data = [{"object": "embedding", "index": at, "embedding": shown} for at in range(len(self.ask.inputs))]
        fields = {"object": "list", "data": data, "model": self.plan.model}
        if self.behaviour.usage != "absent":
            fields["usage"] = {"prompt_tokens": self.plan.input, "total_tokens": self.plan.input}
        return fields

    def hollow(self, data):
        return {"object": "list", "data": data, "model": self.plan.model}

"""Anthropic's messages."""

import json

from . import Dialect, Frame

FINISH = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use", "content_filter": "refusal"}


class Messages(Dialect):
    """/v1/messages"""

    def usage(self, output):
        cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        return {"input_tokens": self.plan.input, **cached, "output_tokens": output, "service_tier": "standard",
                **self.padding}

    def shown(self, fields, usage):
        """Fields with the usage as it is shown, if it is."""
        if self.behaviour.usage == "absent":
            return fields
        return {**fields, "usage": None if self.behaviour.usage == "null" else usage}

    def message(self, content, stop, output):
        fields = {
            "id": self.name("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self.plan.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
        }
        return self.shown(fields, self.usage(output))

    def blocks(self):
        """Each block: as it begins, its deltas, and as a whole."""
        plan = self.plan
        if plan.reasoning:
            text = "".join(plan.reasoning)
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in plan.reasoning]
            whole = {"type": "thinking", "thinking": text, "signature": "c3RhbmQtaW4="}
            yield {"type": "thinking", "thinking": "", "signature": ""}, deltas, whole
        for at, call in enumerate(plan.calls):
            use = {"type": "tool_use", "id": self.name("toolu_", at), "name": call.name}
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in call.pieces]
            yield {**use, "input": {}}, deltas, {**use, "input": json.loads("".join(call.pieces))}
        if plan.text:
            deltas = [{"type": "text_delta", "text": piece} for piece in plan.text]
            yield {"type": "text", "text": ""}, deltas, {"type": "text", "text": "".join(plan.text)}

    def whole(self):
        return self.message([whole for _, _, whole in self.blocks()], FINISH[self.plan.finish], self.plan.output)

    def hollow(self, content):
        return self.message(content, "end_turn", 0)

    def event(self, kind, name, fields, tokens=0):
        self.produced += tokens
        return Frame(kind, {"type": name, **fields}, name, tokens)

    def frames(self):
        yield self.event("head", "message_start", {"message": self.message([], None, 1)})
        pinged = False
        for index, (begin, deltas, _) in enumerate(self.blocks()):
            yield self.event("head", "content_block_start", {"index": index, "content_block": begin})
            if not pinged:
                yield self.event("ping", "ping", {})
                pinged = True
            for delta in deltas:
                yield self.event("token", "content_block_delta", {"index": index, "delta": delta}, 1)
                if self.behaviour.usage == "every":
                    yield self.message_delta("tail", None)
            yield self.event("tail", "content_block_stop", {"index": index})
        yield from self.ending()

    def message_delta(self, kind, stop):
        fields = {"delta": {"stop_reason": stop, "stop_sequence": None}}
        return self.event(kind, "message_delta", self.shown(fields, {"output_tokens": self.produced}))

    def ending(self):
        yield self.message_delta("tail", FINISH[self.plan.finish])
        yield self.event("final", "message_stop", {})

    def hollow_frames(self, content):
        yield self.event("head", "message_start", {"message": self.message(content, None, 1)})
        yield from self.ending()

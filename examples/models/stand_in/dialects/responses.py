"""OpenAI's responses."""

from . import Dialect, Frame


class Responses(Dialect):
    """/v1/responses"""

    indent = 2
    reasons = False

    def usage(self):
        plan, form = self.plan, self.behaviour.usage
        if form in ("absent", "null"):
            return None
        return {
            "input_tokens": plan.input,
            "input_tokens_details": {"cached_tokens": 0, **self.padding},
            "output_tokens": plan.output,
            "output_tokens_details": {"reasoning_tokens": len(plan.reasoning)},
            "total_tokens": plan.input + plan.output,
        }

    def response(self, status, output, usage):
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self.name("resp_"),
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": incomplete,
            "instructions": None,
            "max_output_tokens": self.ask.limit,
            "metadata": {},
            "model": self.plan.model,
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": True,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": usage,
            "user": None,
        }

    def message(self, status, text):
        content = [] if text is None else [self.part(text)]
        return {"id": self.name("msg_"), "type": "message", "status": status, "role": "assistant", "content": content}

    @staticmethod
    def part(text):
        return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}

    def call(self, at, status, arguments):
        return {
            "id": self.name("fc_", at),
            "type": "function_call",
            "status": status,
            "call_id": self.name("call_", at),
            "name": self.plan.calls[at].name,
            "arguments": arguments,
        }

    def output(self):
        calls = [self.call(at, "completed", "".join(call.pieces)) for at, call in enumerate(self.plan.calls)]
        return calls or [self.message("completed", "".join(self.plan.text))]

    def ending(self):
        return "incomplete" if self.plan.finish == "length" else "completed"

    def whole(self):
        return self.response(self.ending(), self.output(), self.usage())

    def hollow(self, output):
        return self.response("completed", output, None)

    def numbered(self, frames):
        """Each event says its own name and its place in the stream."""
        for number, (kind, event, fields, tokens) in enumerate(frames):
            yield Frame(kind, {"type": event, "sequence_number": number, **fields}, event, tokens)

    def frames(self):
        return self.numbered(self.events())

    def hollow_frames(self, output):
        response = self.response("completed", output, None)
        events = [("head", "response.created", {"response": self.response("in_progress", [], None)}, 0)]
        return self.numbered([*events, ("final", "response.completed", {"response": response}, 0)])

    def events(self):
        begun = {"response": self.response("in_progress", [], None)}
        yield "head", "response.created", begun, 0
        yield "head", "response.in_progress", begun, 0
        if self.plan.calls:
            for at, call in enumerate(self.plan.calls):
                yield from self.call_events(at, call)
        else:
            yield from self.text_events()
        ending = self.ending()
        yield "final", f"response.{ending}", {"response": self.response(ending, self.output(), self.usage())}, 0

    def text_events(self):
        item, text = self.name("msg_"), "".join(self.plan.text)
        place = {"item_id": item, "output_index": 0, "content_index": 0}
        yield "head", "response.output_item.added", {"output_index": 0, "item": self.message("in_progress", None)}, 0
        yield "head", "response.content_part.added", {**place, "part": self.part("")}, 0
        for piece in self.plan.text:
            yield "token", "response.output_text.delta", {**place, "delta": piece, "logprobs": []}, 1
        yield "tail", "response.output_text.done", {**place, "text": text, "logprobs": []}, 0
        yield "tail", "response.content_part.done", {**place, "part": self.part(text)}, 0
        yield "tail", "response.output_item.done", {"output_index": 0, "item": self.message("completed", text)}, 0

    def call_events(self, at, call):
        arguments, place = "".join(call.pieces), {"item_id": self.name("fc_", at), "output_index": at}
        added = {"output_index": at, "item": self.call(at, "in_progress", "")}
        yield "head", "response.output_item.added", added, 0
        for piece in call.pieces:
            yield "token", "response.function_call_arguments.delta", {**place, "delta": piece}, 1
        done = {**place, "name": call.name, "arguments": arguments}
        yield "tail", "response.function_call_arguments.done", done, 0
        finished = {"output_index": at, "item": self.call(at, "completed", arguments)}
        yield "tail", "response.output_item.done", finished, 0

"""Gemini's generateContent and streamGenerateContent."""

import json

from . import Dialect, Frame

FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool": "STOP", "content_filter": "SAFETY"}


class Gemini(Dialect):
    """/v1beta/models/<model>:generateContent and :streamGenerateContent"""

    line_end = "\r\n"
    spaced = True
    indent = 2

    def usage(self, output):
        plan = self.plan
        thoughts = min(output, len(plan.reasoning))
        fields = {"promptTokenCount": plan.input, "candidatesTokenCount": output - thoughts,
                  "totalTokenCount": plan.input + output}
        if plan.reasoning:
            fields["thoughtsTokenCount"] = thoughts
        details = [{"modality": "TEXT", "tokenCount": plan.input, **self.padding}]
        return {**fields, "promptTokensDetails": details}

    def answer(self, candidates, output, last):
        fields = {} if candidates is None else {"candidates": candidates}
        form = self.behaviour.usage
        if form == "null":
            fields["usageMetadata"] = None
        elif form in ("auto", "every") or (form in ("last", "separate") and last):
            fields["usageMetadata"] = self.usage(output)
        return {**fields, "modelVersion": self.plan.model, "responseId": self.name("r")}

    @staticmethod
    def candidate(parts, finish=None):
        fields = {"content": {"parts": parts, "role": "model"}}
        if finish:
            fields["finishReason"] = finish
        return [{**fields, "index": 0}]

    def parts(self):
        plan = self.plan
        calls = [{"functionCall": {"name": call.name, "args": json.loads("".join(call.pieces))}} for call in plan.calls]
        thoughts = [{"text": "".join(plan.reasoning), "thought": True}] if plan.reasoning else []
        return thoughts + (calls or ([{"text": "".join(plan.text)}] if plan.text else []))

    def whole(self):
        return self.answer(self.candidate(self.parts(), FINISH[self.plan.finish]), self.plan.output, True)

    def hollow(self, candidates):
        """Nothing is billed for it, so it tells no usage."""
        fields = self.answer(candidates, 0, True)
        fields.pop("usageMetadata", None)
        return fields

    def hollow_frames(self, candidates):
        yield Frame("final", self.hollow(candidates))

    def part(self, part, tokens, finish=None):
        """An event with one part. Gemini's last one carries both text and the reason of the end."""
        self.produced += tokens
        return Frame("token", self.answer(self.candidate([part], finish), self.produced, bool(finish)), None, tokens)

    def frames(self):
        plan = self.plan
        for piece in plan.reasoning:
            yield self.part({"text": piece, "thought": True}, 1)
        for piece in plan.text:
            yield self.part({"text": piece}, 1)
        for call in plan.calls:
            arguments = json.loads("".join(call.pieces))
            yield self.part({"functionCall": {"name": call.name, "args": arguments}}, len(call.pieces))
        last = self.candidate([{"text": ""}], FINISH[plan.finish])
        yield Frame("final", self.answer(last, self.produced, True))

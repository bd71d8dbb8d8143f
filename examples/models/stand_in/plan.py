"""What is answered: word0 word1 word2 …, so that whoever reads it sees what is missing or comes twice. A word is a token."""

import dataclasses
import re


@dataclasses.dataclass
class Call:
    """A call of a tool, its arguments in pieces of one token each."""

    name: str
    pieces: list


@dataclasses.dataclass
class Plan:
    """An answer before anybody's wire format."""

    model: str
    input: int
    reasoning: list
    text: list
    calls: list
    # `stop`, `length`, `tool` or `content_filter`.
    finish: str

    @property
    def output(self):
        return len(self.reasoning) + len(self.text) + sum(len(call.pieces) for call in self.calls)


def numbered(first, count, name="word"):
    """Pieces `word0`, ` word1`, … that join to the text."""
    return [f"{' ' if number else ''}{name}{number}" for number in range(first, first + count)]


def as_object(pieces):
    """The same pieces within a JSON object, for tools and for whoever asked for JSON."""
    if not pieces:
        return ['{"words": ""}']
    inside = list(pieces)
    inside[0] = '{"words": "' + inside[0]
    inside[-1] += '"}'
    return inside


def plan(ask, behaviour):
    """The answer to what is asked."""
    input_tokens = ask.input_tokens if behaviour.input is None else behaviour.input
    reasoning = numbered(0, behaviour.reasoning, "thought")
    if ask.tools and not ask.answers_tool:
        names = [ask.tools[at % len(ask.tools)] for at in range(behaviour.calls)]
        calls = [Call(name, as_object(numbered(0, behaviour.tokens))) for name in names]
        return Plan(ask.model, input_tokens, reasoning, [], calls, behaviour.finish or "tool")
    if behaviour.text is not None:
        text = re.findall(r"\s*\S+", behaviour.text)
    else:
        text = numbered(ask.prefill, behaviour.tokens)
        text = as_object(text) if ask.json else text
    finish = "stop"
    if ask.limit is not None and len(text) > ask.limit:
        text, finish = text[: ask.limit], "length"
    return Plan(ask.model, input_tokens, reasoning, text, [], behaviour.finish or finish)

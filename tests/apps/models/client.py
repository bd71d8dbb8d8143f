"""Clients of somebody else's making: the official SDKs of OpenAI and Anthropic, told what to ask.

Every line of standard input is a JSON object with a `number`, answered by a line of JSON `{"number", "answer"}` on standard
output as soon as the answer is there: orders do not wait for each other. `{"do": "ask", ...}` asks once,
`{"do": "many", "orders": [...], "concurrency": n}` as often as there are orders and answers with a list, `{"do": "about"}`
tells the versions. An order:

client      "openai" or "anthropic"
async       whether the asynchronous client is used
api         "chat", "responses", "completions", "embeddings", "models" or "messages"
stream      whether a stream is asked for
base_url, key, headers, max_retries (0), timeout (seconds, 60)
model, prompt or messages, tools (true: one tool `lookup`), more (further arguments of the call, as they are)
cancel_after  closes the stream after so many tokens
cancel_ms     gives up after so many milliseconds (asynchronous clients only)

The answer says what an application would see: `text`, `words` (how many) and `gapless` (whether they are word0 word1 …),
`calls`, `finish`, `usage`, `events`, `headers`, `error` (`class`, `status`, `message`, `code`, `type`, `body`), and times:
`elapsed_ms`, `first_token_ms` since the start, `started_ms` and `cancelled_ms` (when the SDK had closed the connection)
on the machine's monotonic clock.
"""

import asyncio
import concurrent.futures
import inspect
import json
import sys
import time

import anthropic
import openai

TOOL = {"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]}
CLASSES = {
    ("openai", False): openai.OpenAI,
    ("openai", True): openai.AsyncOpenAI,
    ("anthropic", False): anthropic.Anthropic,
    ("anthropic", True): anthropic.AsyncAnthropic,
}
# Calls of blocking clients at the same time.
THREADS = 64
# Longest text that is told in full.
TOLD = 16 * 1024
clients = {}


def now_ms():
    return time.monotonic() * 1000


def client(order):
    """The client of an order; one for all orders that want the same, as an application has one."""
    kind = (order["client"], bool(order.get("async")))
    settings = {
        "base_url": order["base_url"],
        "api_key": order.get("key", "the-application-has-none"),
        "default_headers": order.get("headers", {}),
        "max_retries": order.get("max_retries", 0),
        "timeout": order.get("timeout", 60),
    }
    name = json.dumps([kind, settings], sort_keys=True)
    if name not in clients:
        clients[name] = CLASSES[kind](**settings)
    return clients[name]


def call(order):
    """The method that an order calls, and its arguments."""
    api, made, more = order["api"], client(order), dict(order.get("more", {}))
    prompt = order.get("prompt", "one two three")
    messages = order.get("messages", [{"role": "user", "content": prompt}])
    if api == "models":
        return made.models.with_raw_response.list, more
    arguments = {"model": order.get("model", "small"), **more}
    if order.get("stream"):
        arguments["stream"] = True
    if api == "chat":
        arguments["messages"] = messages
        method = made.chat.completions.with_raw_response.create
    elif api == "responses":
        arguments["input"] = order.get("messages", prompt)
        method = made.responses.with_raw_response.create
    elif api == "completions":
        arguments["prompt"] = prompt
        arguments.setdefault("max_tokens", 1000)
        method = made.completions.with_raw_response.create
    elif api == "embeddings":
        arguments["input"] = prompt
        method = made.embeddings.with_raw_response.create
    else:
        arguments["messages"] = messages
        arguments.setdefault("max_tokens", 1000)
        method = made.messages.with_raw_response.create
    if order.get("tools"):
        arguments["tools"] = [tool(api)]
    return method, arguments


def tool(api):
    function = {"name": "lookup", "description": "Looks words up."}
    if api == "chat":
        return {"type": "function", "function": {**function, "parameters": TOOL}}
    if api == "responses":
        return {"type": "function", **function, "parameters": TOOL}
    return {**function, "input_schema": TOOL}


class Seen:
    """What an application would have of one answer."""

    def __init__(self):
        self.started_ms = now_ms()
        self.first_token_ms = None
        self.cancelled_ms = None
        self.pieces = []
        self.thoughts = []
        self.calls = {}
        self.tokens = 0
        self.events = 0
        self.finish = None
        self.usage = None
        self.status = None
        self.headers = {}
        self.error = None
        self.result = None

    def token(self):
        self.tokens += 1
        if self.first_token_ms is None:
            self.first_token_ms = now_ms() - self.started_ms

    def text(self, piece):
        if piece:
            self.token()
            self.pieces.append(piece)

    def arguments(self, index, piece, name=None):
        made = self.calls.setdefault(index, {"name": None, "arguments": ""})
        made["name"] = made["name"] or name
        if piece:
            self.token()
            made["arguments"] += piece

    def spent(self, usage):
        """Later figures win; those that are missing stay."""
        if usage is not None:
            fields = usage.model_dump(exclude_none=True) if hasattr(usage, "model_dump") else usage
            self.usage = {**(self.usage or {}), **fields}

    def failed(self, error):
        body = getattr(error, "body", None)
        self.error = {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "message": str(error),
            "code": getattr(error, "code", None),
            "type": getattr(error, "type", None),
            "body": body if isinstance(body, (dict, list, str)) else None,
        }
        response = getattr(error, "response", None)
        if response is not None:
            self.status, self.headers = response.status_code, dict(response.headers)

    def answer(self):
        text = "".join(self.pieces)
        words = text.split()
        return {
            "text": text if len(text) <= TOLD else None,
            "words": len(words),
            "gapless": text == " ".join(f"word{number}" for number in range(len(words))),
            "thoughts": len("".join(self.thoughts).split()),
            "calls": list(self.calls.values()),
            "tokens": self.tokens,
            "events": self.events,
            "finish": self.finish,
            "usage": self.usage,
            "status": self.status,
            "headers": self.headers,
            "error": self.error,
            "result": self.result,
            "elapsed_ms": now_ms() - self.started_ms,
            "first_token_ms": self.first_token_ms,
            "started_ms": self.started_ms,
            "cancelled_ms": self.cancelled_ms,
        }


# Events and whole answers of each API.


def chat_event(seen, chunk):
    seen.spent(chunk.usage)
    for choice in chunk.choices or []:
        seen.finish = choice.finish_reason or seen.finish
        thought = getattr(choice.delta, "reasoning_content", None)
        if thought:
            seen.token()
            seen.thoughts.append(thought)
        seen.text(choice.delta.content)
        for made in choice.delta.tool_calls or []:
            seen.arguments(made.index, made.function.arguments, made.function.name)


def chat_whole(seen, answer):
    seen.spent(answer.usage)
    choice = answer.choices[0]
    seen.finish = choice.finish_reason
    seen.text(choice.message.content)
    for index, made in enumerate(choice.message.tool_calls or []):
        seen.arguments(index, made.function.arguments, made.function.name)


def completions_event(seen, chunk):
    seen.spent(chunk.usage)
    for choice in chunk.choices:
        seen.finish = choice.finish_reason or seen.finish
        seen.text(choice.text)


def responses_event(seen, event):
    if event.type in ("response.output_text.delta",):
        seen.text(event.delta)
    elif event.type == "response.output_item.added" and event.item.type == "function_call":
        seen.arguments(event.output_index, "", event.item.name)
    elif event.type == "response.function_call_arguments.delta":
        seen.arguments(event.output_index, event.delta)
    elif event.type in ("response.completed", "response.incomplete", "response.failed"):
        seen.finish = event.response.status
        seen.spent(event.response.usage)


def responses_whole(seen, answer):
    seen.spent(answer.usage)
    seen.finish = answer.status
    seen.text(answer.output_text)
    for index, item in enumerate(answer.output):
        if item.type == "function_call":
            seen.arguments(index, item.arguments, item.name)


def messages_event(seen, event):
    if event.type == "message_start":
        seen.spent(event.message.usage)
    elif event.type == "message_delta":
        seen.spent(event.usage)
        seen.finish = event.delta.stop_reason or seen.finish
    elif event.type == "content_block_start" and event.content_block.type == "tool_use":
        seen.arguments(event.index, "", event.content_block.name)
    elif event.type == "content_block_delta" and event.delta.type == "text_delta":
        seen.text(event.delta.text)
    elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
        seen.arguments(event.index, event.delta.partial_json)
    elif event.type == "content_block_delta" and event.delta.type == "thinking_delta":
        seen.token()
        seen.thoughts.append(event.delta.thinking)


def messages_whole(seen, answer):
    seen.spent(answer.usage)
    seen.finish = answer.stop_reason
    for index, block in enumerate(answer.content):
        if block.type == "text":
            seen.text(block.text)
        elif block.type == "tool_use":
            seen.arguments(index, json.dumps(block.input), block.name)


def embeddings_whole(seen, answer):
    seen.spent(answer.usage)
    seen.result = [list(one.embedding) for one in answer.data]


def models_whole(seen, answer):
    seen.result = [model.id for model in answer.data]


EVENTS = {"chat": chat_event, "completions": completions_event, "responses": responses_event, "messages": messages_event}
WHOLE = {
    "chat": chat_whole,
    "completions": completions_event,
    "responses": responses_whole,
    "messages": messages_whole,
    "embeddings": embeddings_whole,
    "models": models_whole,
}


def enough(order, seen):
    """Whether the application goes away now."""
    return "cancel_after" in order and seen.tokens >= order["cancel_after"]


async def settled(value):
    return await value if inspect.isawaitable(value) else value


async def ask_asynchronously(order, seen):
    method, arguments = call(order)
    raw = await settled(method(**arguments))
    seen.status, seen.headers = raw.status_code, dict(raw.headers)
    answer = await settled(raw.parse())
    if not order.get("stream"):
        WHOLE[order["api"]](seen, answer)
        return
    async for event in answer:
        seen.events += 1
        EVENTS[order["api"]](seen, event)
        if enough(order, seen):
            await answer.close()
            seen.cancelled_ms = now_ms()
            return


def ask_synchronously(order, seen):
    method, arguments = call(order)
    raw = method(**arguments)
    seen.status, seen.headers = raw.status_code, dict(raw.headers)
    answer = raw.parse()
    if not order.get("stream"):
        WHOLE[order["api"]](seen, answer)
        return
    for event in answer:
        seen.events += 1
        EVENTS[order["api"]](seen, event)
        if enough(order, seen):
            answer.close()
            seen.cancelled_ms = now_ms()
            return


async def give_up(seen, order):
    """Cancels the call after a while, as an application does that no longer wants the answer."""
    asked = asyncio.ensure_future(ask_asynchronously(order, seen))
    done, _ = await asyncio.wait([asked], timeout=order["cancel_ms"] / 1000)
    if not done:
        asked.cancel()
        await asyncio.wait([asked])
        seen.cancelled_ms = now_ms()
    await asked


async def ask(order):
    seen = Seen()
    try:
        if "cancel_ms" in order:
            await give_up(seen, order)
        elif order.get("async"):
            await ask_asynchronously(order, seen)
        else:
            await asyncio.to_thread(ask_synchronously, order, seen)
    except asyncio.CancelledError:
        pass
    except Exception as error:
        seen.failed(error)
    return seen.answer()


async def many(order):
    free = asyncio.Semaphore(order.get("concurrency", 8))

    async def one(each):
        async with free:
            return await ask({**order.get("all", {}), **each})

    return await asyncio.gather(*(one(each) for each in order["orders"]))


async def answer(order):
    if order["do"] == "about":
        return {"openai": openai.__version__, "anthropic": anthropic.__version__}
    return await (many(order) if order["do"] == "many" else ask(order))


async def tell(order):
    try:
        told = await answer(order)
    except Exception as error:
        told = {"broken": f"{type(error).__name__}: {error}"}
    print(json.dumps({"number": order["number"], "answer": told}), flush=True)


async def main():
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(THREADS))
    under_way = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        task = loop.create_task(tell(json.loads(line)))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


asyncio.run(main())

"""What is asked for: the API by its path, the credential by its provider, the words of the prompt."""

import dataclasses
import json
import re

# Tokens of an image, whatever its size.
IMAGE_TOKENS = 85

GEMINI = re.compile(r"^/v1(?:beta)?/models/([^/:]+):(generateContent|streamGenerateContent|countTokens|embedContent)$")
AZURE = re.compile(r"^/openai/deployments/([^/]+)/(chat/completions|completions|embeddings)$")
OPENAI_APIS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/models": "models",
    "/v1/realtime": "realtime",
}
# Of providers that speak OpenAI's dialect, where their paths begin.
PREFIXES = {"dashscope": "/compatible-mode", "azure": "/openai"}
PROVIDERS = ("any", "openai", "anthropic", "gemini", "azure", "dashscope", "vllm")


@dataclasses.dataclass
class Route:
    """Which API of which provider a path is."""

    api: str
    provider: str
    model: str | None = None
    stream: bool = False


def route(provider, path, query):
    """The API at this path of a provider, or None: then it answers 404."""
    found = gemini(path) if provider in ("any", "gemini") else None
    if found is None and provider in ("any", "anthropic"):
        found = anthropic(path)
    if found is None and provider not in ("anthropic", "gemini"):
        found = openai(provider, path)
    if found and found.api == "gemini" and found.stream:
        found.api = "gemini" if query.get("alt") == "sse" else "gemini-array"
    return found


def gemini(path):
    if match := GEMINI.match(path):
        model, method = match.groups()
        apis = {"countTokens": "gemini-count", "embedContent": "gemini-embed"}
        return Route(apis.get(method, "gemini"), "gemini", model, method == "streamGenerateContent")
    return Route("gemini-models", "gemini") if path == "/v1beta/models" else None


def anthropic(path):
    apis = {"/v1/messages": "messages", "/v1/messages/count_tokens": "messages-count"}
    return Route(apis[path], "anthropic") if path in apis else None


def openai(provider, path):
    if provider in ("any", "azure") and (match := AZURE.match(path)):
        deployment, api = match.groups()
        return Route(OPENAI_APIS["/v1/" + api], "azure", deployment)
    for spoken, prefix in PREFIXES.items():
        if provider in ("any", spoken) and path.startswith(prefix + "/") and path[len(prefix) :] in OPENAI_APIS:
            return Route(OPENAI_APIS[path[len(prefix) :]], spoken)
    if path in OPENAI_APIS and provider not in PREFIXES:
        return Route(OPENAI_APIS[path], "openai" if provider == "any" else provider)
    return None


def shown_key(provider, request):
    """The credential that a request shows, where this provider looks for it."""
    authorization = request.header("authorization") or ""
    bearer = authorization[7:] if authorization[:7].lower() == "bearer " else None
    if provider == "anthropic":
        return request.header("x-api-key") or bearer
    if provider == "gemini":
        return request.header("x-goog-api-key") or request.query.get("key")
    if provider == "azure":
        return request.header("api-key") or bearer
    return bearer


@dataclasses.dataclass
class Ask:
    """What is asked for, in no provider's words."""

    model: str
    stream: bool = False
    prompt: list = dataclasses.field(default_factory=list)
    images: int = 0
    tools: list = dataclasses.field(default_factory=list)
    answers_tool: bool = False
    limit: int | None = None
    # Words that the answer has already: it goes on from there.
    prefill: int = 0
    json: bool = False
    usage: bool = False
    continuous_usage: bool = False
    inputs: list = dataclasses.field(default_factory=list)
    base64: bool = False

    @property
    def input_tokens(self):
        return sum(len(text.split()) for text in self.prompt) + IMAGE_TOKENS * self.images


class Invalid(ValueError):
    """The request cannot be understood; the text says why."""


def read(found, body):
    """What a body asks of an API; raises Invalid."""
    try:
        fields = json.loads(body or b"{}")
    except ValueError as error:
        raise Invalid(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise Invalid("the body is not a JSON object")
    readers = {"chat": chat, "responses": responses, "completions": completions, "embeddings": embeddings}
    readers |= {"messages": messages, "messages-count": messages}
    try:
        ask = readers.get(found.api, contents)(fields, found)
    except (AttributeError, KeyError, TypeError) as error:
        raise Invalid(f"the body has not the shape of this API: {error!r}") from error
    if not ask.model:
        raise Invalid("you must provide a model parameter")
    return ask


def collect(ask, content):
    """Takes the text of a content, which is a text or a list of parts."""
    if content is None:
        return
    if isinstance(content, str):
        ask.prompt.append(content)
        return
    for part in content:
        kind = part.get("type", "")
        if "image" in kind or "inlineData" in part:
            ask.images += 1
        elif isinstance(part.get("text"), str):
            ask.prompt.append(part["text"])
        elif kind == "tool_result":
            ask.answers_tool = True
            collect(ask, part.get("content"))


def words(content):
    """Number of words of a content."""
    counted = Ask("")
    collect(counted, content)
    return counted.input_tokens


def chat(fields, found):
    ask = Ask(fields.get("model") or found.model, bool(fields.get("stream")))
    conversation = fields["messages"]
    for message in conversation:
        collect(ask, message.get("content"))
    last = conversation[-1]
    ask.answers_tool = last.get("role") == "tool"
    ask.prefill = words(last.get("content")) if last.get("role") == "assistant" else 0
    ask.tools = chosen([tool["function"]["name"] for tool in fields.get("tools") or []], fields.get("tool_choice"))
    ask.limit = fields.get("max_completion_tokens") or fields.get("max_tokens")
    ask.json = (fields.get("response_format") or {}).get("type", "text") != "text"
    options(ask, fields)
    return ask


def options(ask, fields):
    given = fields.get("stream_options")
    if given is not None and not ask.stream:
        raise Invalid("the 'stream_options' parameter is only allowed when 'stream' is enabled")
    ask.usage = bool((given or {}).get("include_usage"))
    ask.continuous_usage = ask.usage and bool((given or {}).get("continuous_usage_stats"))


def chosen(names, choice):
    """The tools that may be called under a choice of OpenAI's: a word, or one tool by name."""
    if choice == "none":
        return []
    name = choice.get("name") or choice.get("function", {}).get("name") if isinstance(choice, dict) else None
    return [name] if name else names


def completions(fields, found):
    prompt = fields.get("prompt", "")
    ask = Ask(fields.get("model") or found.model, bool(fields.get("stream")))
    ask.prompt = [prompt] if isinstance(prompt, str) else [str(part) for part in prompt]
    ask.limit = fields.get("max_tokens", 16)
    options(ask, fields)
    return ask


def responses(fields, found):
    ask = Ask(fields.get("model") or found.model, bool(fields.get("stream")))
    collect(ask, fields.get("instructions"))
    given = fields.get("input", "")
    if isinstance(given, str):
        ask.prompt.append(given)
    else:
        for item in given:
            if item.get("type") == "function_call_output":
                collect(ask, item.get("output"))
            else:
                collect(ask, item.get("content"))
        last = given[-1]
        ask.answers_tool = last.get("type") == "function_call_output"
        ask.prefill = words(last.get("content")) if last.get("role") == "assistant" else 0
    names = [tool["name"] for tool in fields.get("tools") or [] if tool.get("type") == "function"]
    ask.tools = chosen(names, fields.get("tool_choice"))
    ask.limit = fields.get("max_output_tokens")
    ask.json = ((fields.get("text") or {}).get("format") or {}).get("type", "text") != "text"
    return ask


def embeddings(fields, found):
    given = fields["input"]
    ask = Ask(fields.get("model") or found.model)
    ask.inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    ask.prompt = [text if isinstance(text, str) else " ".join(map(str, text)) for text in ask.inputs]
    ask.base64 = fields.get("encoding_format") == "base64"
    return ask


def messages(fields, found):
    ask = Ask(fields.get("model"), bool(fields.get("stream")))
    if found.api == "messages" and not fields.get("max_tokens"):
        raise Invalid("max_tokens: Field required")
    collect(ask, fields.get("system"))
    conversation = fields["messages"]
    for message in conversation:
        if message.get("role") not in ("user", "assistant"):
            raise Invalid("messages: a role is 'user' or 'assistant'")
        ask.answers_tool = False
        collect(ask, message["content"])
    last = conversation[-1]
    ask.prefill = words(last["content"]) if last["role"] == "assistant" else 0
    choice = fields.get("tool_choice") or {}
    names = [tool["name"] for tool in fields.get("tools") or []]
    ask.tools = chosen(names, "none" if choice.get("type") == "none" else choice)
    ask.limit = fields.get("max_tokens")
    return ask


def contents(fields, found):
    ask = Ask(found.model, found.stream)
    instruction = fields.get("systemInstruction") or fields.get("system_instruction")
    collect(ask, (instruction or {}).get("parts"))
    conversation = fields.get("contents") or [fields["content"]]
    for content in conversation:
        if content.get("role", "user") not in ("user", "model", "function"):
            raise Invalid("Please use a valid role: user, model.")
        ask.answers_tool = any("functionResponse" in part for part in content["parts"])
        collect(ask, content["parts"])
        ask.prompt += [json.dumps(part["functionResponse"].get("response", {})) for part in content["parts"]
                       if "functionResponse" in part]
    last = conversation[-1]
    ask.prefill = words(last["parts"]) if last.get("role") == "model" else 0
    names = [one["name"] for tool in fields.get("tools") or [] for one in tool.get("functionDeclarations", [])]
    calling = ((fields.get("toolConfig") or {}).get("functionCallingConfig") or {}).get("mode")
    ask.tools = [] if calling == "NONE" else names
    generation = fields.get("generationConfig") or {}
    ask.limit = generation.get("maxOutputTokens")
    ask.json = generation.get("responseMimeType") == "application/json"
    return ask

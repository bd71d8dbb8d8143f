"""Errors as providers write them: status, headers and body, and the event that says one within a stream."""

import email.utils
import datetime
import re
import time

# What each means by its status.
BY_STATUS = {400: "bad_request", 401: "auth", 403: "permission", 404: "not_found", 408: "server", 429: "rate",
             500: "server", 502: "server", 503: "overloaded", 504: "server", 529: "overloaded"}
# And the other way round, where a test names the error only: OpenAI's, Anthropic's, Gemini's.
STATUS = {
    "bad_request": (400, 400, 400), "auth": (401, 401, 400), "permission": (403, 403, 403),
    "not_found": (404, 404, 404), "rate": (429, 429, 429), "quota": (429, 400, 429), "server": (500, 500, 500),
    "overloaded": (503, 529, 503), "context": (400, 400, 400), "content_filter": (400, 400, 400),
}
# Tokens that the stand-in says would fit.
WINDOW = 8192

# Kind of error: type, code, param, message.
OPENAI = {
    "bad_request": ("invalid_request_error", None, None, "Something in this request is not valid."),
    "auth": ("invalid_request_error", "invalid_api_key", None, "Incorrect API key provided: sk-****."),
    "permission": ("invalid_request_error", "unsupported_country_region_territory", None, "Not allowed from here."),
    "not_found": ("invalid_request_error", "model_not_found", None, "The model `{model}` does not exist or is not yours."),
    "rate": ("requests", "rate_limit_exceeded", None, "Rate limit reached for {model}: too many requests per minute."),
    "quota": ("insufficient_quota", "insufficient_quota", None, "You exceeded your current quota; check your billing."),
    "server": ("server_error", None, None, "The server had an error while processing your request."),
    "overloaded": ("server_error", None, None, "The engine is currently overloaded, please try again later."),
    "context": ("invalid_request_error", "context_length_exceeded", "messages",
                "This model's maximum context length is {window} tokens; your messages resulted in {input} tokens."),
    "content_filter": ("invalid_request_error", "content_filter", "prompt",
                       "The prompt triggered the content management policy."),
}
DASHSCOPE = {
    **OPENAI,
    "rate": ("limit_requests", "limit_requests", None, "You exceeded your current request limit."),
    "quota": ("insufficient_quota", "insufficient_quota", None, "Allocated quota exceeded, please increase your quota."),
    "context": ("invalid_request_error", "invalid_parameter_error", None,
                "Range of input length should be [1, {window}]"),
    "content_filter": ("data_inspection_failed", "data_inspection_failed", None,
                       "Input data may contain inappropriate content."),
}
VLLM = {
    "bad_request": "BadRequestError", "auth": "Unauthorized", "permission": "Forbidden", "not_found": "NotFoundError",
    "rate": "TooManyRequests", "quota": "TooManyRequests", "server": "InternalServerError",
    "overloaded": "ServiceUnavailableError", "context": "BadRequestError", "content_filter": "BadRequestError",
}
ANTHROPIC = {
    "bad_request": ("invalid_request_error", "Something in this request is not valid."),
    "auth": ("authentication_error", "invalid x-api-key"),
    "permission": ("permission_error", "Your API key may not use this resource."),
    "not_found": ("not_found_error", "model: {model}"),
    "rate": ("rate_limit_error", "This request would exceed your rate limit."),
    "quota": ("invalid_request_error", "Your credit balance is too low to access the API."),
    "server": ("api_error", "Internal server error"),
    "overloaded": ("overloaded_error", "Overloaded"),
    "context": ("invalid_request_error", "prompt is too long: {input} tokens > {window} maximum"),
    "content_filter": ("invalid_request_error", "Output blocked by content filtering policy"),
}
GEMINI = {
    "bad_request": ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    "auth": ("INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "permission": ("PERMISSION_DENIED", "Method does not allow unregistered callers."),
    "not_found": ("NOT_FOUND", "models/{model} is not found for API version v1beta."),
    "rate": ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "quota": ("RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details."),
    "server": ("INTERNAL", "An internal error has occurred."),
    "overloaded": ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    "context": ("INVALID_ARGUMENT", "The input token count ({input}) exceeds the maximum number of tokens allowed ({window})."),
    "content_filter": ("INVALID_ARGUMENT", "The prompt was blocked."),
}
GEMINI_DETAILS = {
    "auth": ("google.rpc.ErrorInfo", {"reason": "API_KEY_INVALID", "domain": "googleapis.com"}),
    "quota": ("google.rpc.QuotaFailure", {"violations": [{
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
    }]}),
}
# A moment in a header of a behaviour: `{date+7}`, `{rfc3339+7}`, seconds from now.
MOMENT = re.compile(r"\{(date|rfc3339)\+(\d+)\}")


def family(provider):
    """Which of OpenAI's, Anthropic's and Gemini's."""
    return {"anthropic": 1, "gemini": 2}.get(provider, 0)


class Refusal:
    """An error of a provider."""

    def __init__(self, provider, kind, number, *, status=None, message=None, model="", tokens=0, form=None):
        self.provider = provider
        self.kind = kind
        self.number = number
        self.status = status or STATUS[kind][family(provider)]
        self.given = message
        self.facts = {"model": model, "input": tokens, "window": WINDOW}
        self.form = form

    def text(self, message):
        return self.given or message.format(**self.facts)

    def body(self):
        """What a client reads."""
        if self.provider == "anthropic":
            return {"type": "error", "error": self.anthropic(), "request_id": f"req_{self.number:024x}"}
        if self.provider == "gemini":
            return {"error": self.gemini()}
        if self.provider == "vllm":
            return self.vllm() if self.form == "flat" else {"error": self.vllm()}
        if self.provider == "dashscope":
            return {"error": self.openai(), "request_id": f"{self.number:032x}"}
        return {"error": self.openai()}

    def openai(self):
        kinds = DASHSCOPE if self.provider == "dashscope" else OPENAI
        name, code, parameter, message = kinds[self.kind]
        fields = {"message": self.text(message), "type": name, "param": parameter, "code": code}
        if self.provider == "azure" and self.kind == "content_filter":
            result = {"violence": {"filtered": True, "severity": "high"}}
            fields["innererror"] = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": result}
        return fields

    def vllm(self):
        flat = {"object": "error"} if self.form == "flat" else {}
        message = self.text(OPENAI[self.kind][3])
        return {**flat, "message": message, "type": VLLM[self.kind], "param": None, "code": self.status}

    def anthropic(self):
        name, message = ANTHROPIC[self.kind]
        return {"type": name, "message": self.text(message)}

    def gemini(self):
        name, message = GEMINI[self.kind]
        name = "UNAUTHENTICATED" if self.status == 401 else name
        fields = {"code": self.status, "message": self.text(message), "status": name}
        if self.kind in GEMINI_DETAILS and self.status != 401:
            kind, details = GEMINI_DETAILS[self.kind]
            fields["details"] = [{"@type": f"type.googleapis.com/{kind}", **details}]
        return fields

    def event(self, api, sequence_number=0):
        """The error within a stream: name of the event (or None) and data."""
        if self.provider == "anthropic":
            return (None if self.form == "unnamed" else "error"), {"type": "error", "error": self.anthropic()}
        if api == "responses":
            return self.responses_event(sequence_number)
        return None, self.body()

    def responses_event(self, sequence_number):
        fields = self.openai()
        code = fields["code"] or fields["type"]
        if self.form == "failed":
            error = {"code": code, "message": fields["message"]}
            response = {"id": f"resp_{self.number:024x}", "object": "response", "status": "failed", "error": error,
                        "created_at": int(time.time()), "model": self.facts["model"], "output": [], "usage": None}
            event = "response.failed"
            return event, {"type": event, "sequence_number": sequence_number, "response": response}
        data = {"type": "error", "code": code, "message": fields["message"], "param": None}
        return "error", {**data, "sequence_number": sequence_number}


def headers(given):
    """Headers of a behaviour with their moments filled in."""

    def moment(match):
        seconds = time.time() + int(match.group(2))
        if match.group(1) == "date":
            return email.utils.formatdate(seconds, usegmt=True)
        return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    return [(name, MOMENT.sub(moment, str(value))) for name, value in given.items()]

"""The vendors' published schemas, as the types their SDKs generate from them: strict, and without members nobody knows."""

import json
import threading
import typing
import warnings

import pydantic
from anthropic import types as anthropic
from openai import types as openai
from openai.types import chat, responses

try:
    from google.genai import types as google
except ImportError:  # Python 3.10
    google = None

# What clients of OpenAI's dialect get besides, under the names that others made common: FEATURES 3.1, crates/llm/README.md.
EXTENSIONS = {"weir", "reasoning_content", "reasoning_details", "thinking_blocks", "extra_content"}
# Padding that OpenAI's streams have, and what Azure's filters say of its own accord.
EXTENSIONS |= {"obfuscation", "content_filter_results", "content_filter_offsets", "prompt_filter_results"}
# What a response has by the Open Responses specification and OpenAI's own documentation, but not by its SDK.
EXTENSIONS |= {"store", "presence_penalty", "frequency_penalty"}
# And what OpenAI's Node SDK knows.
EXTENSIONS |= {"ResponseFunctionCallArgumentsDoneEvent.name"}


def _by_type(union):
    """The members of a union by what their `type` says: one member's complaints instead of sixty."""
    found = {}
    for member in typing.get_args(typing.get_args(union)[0]):
        for literal in typing.get_args(member.model_fields["type"].annotation):
            found[literal] = member
    return found


RESPONSE_EVENTS = _by_type(responses.ResponseStreamEvent)
MESSAGE_EVENTS = _by_type(anthropic.RawMessageStreamEvent)
_adapters = {}
_warnings = threading.Lock()


def chat_completion(text):
    return _check(chat.ChatCompletion, text)


def chat_chunk(text):
    return _check(chat.ChatCompletionChunk, text)


def response(text):
    return _check(responses.Response, text)


def response_event(text):
    return _check(_member(RESPONSE_EVENTS, text), text)


def message(text):
    return _check(anthropic.Message, text)


def message_event(text):
    data = json.loads(text)
    if data.get("type") == "ping":
        assert data == {"type": "ping"}, f"no ping: {text}"
        return None
    if data.get("type") == "error":
        return message_error(text)
    return _check(_member(MESSAGE_EVENTS, text), text)


def message_error(text):
    return _check(anthropic.ErrorResponse, text)


def generated(text):
    data = json.loads(text)
    data.pop("weir", None)
    _camel(data, "")
    return _check(google.GenerateContentResponse, json.dumps(data))


def embeddings(text):
    return _check(openai.CreateEmbeddingResponse, text)


def _member(members, text):
    kind = json.loads(text).get("type")
    assert kind in members, f"an event of no known type: {text[:300]}"
    return members[kind]


def _check(kind, text):
    adapter = _adapters.setdefault(kind, pydantic.TypeAdapter(kind))
    try:
        # One at a time: what `warnings` does is done to all threads, and stays when two of them put back each other's.
        with _warnings, warnings.catch_warnings():
            # Google's types warn of enums' values they don't know.
            warnings.simplefilter("error")
            value = adapter.validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        told = [e for e in error.errors() if e["type"] not in ("literal_error", "missing")] or error.errors()
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in told[:4])
        raise AssertionError(f"no {kind.__name__}: {told}: {_short(text)}") from None
    unknown = list(_extras(value, kind.__name__))
    assert not unknown, f"members that {kind.__name__} has not: {unknown}: {_short(text)}"
    return value


def _short(text):
    return text if len(text) < 1500 else text[:1500] + "…"


def _extras(value, path):
    if isinstance(value, pydantic.BaseModel):
        for name in value.model_extra or {}:
            if name not in EXTENSIONS and f"{path}.{name}" not in EXTENSIONS:
                yield f"{path}.{name}"
        for name in type(value).model_fields:
            yield from _extras(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _extras(item, f"{path}[]")


def _camel(value, path):
    """Google's types take snake_case as well; other clients don't."""
    if isinstance(value, list):
        for item in value:
            _camel(item, path)
    elif isinstance(value, dict):
        for name, inner in value.items():
            assert "_" not in name, f"{path}.{name} is not as Gemini writes it"
            if name not in ("args", "response"):
                _camel(inner, f"{path}.{name}")

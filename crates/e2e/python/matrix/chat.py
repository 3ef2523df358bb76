"""A client of OpenAI's chat completions. The rules of its streams are FEATURES 3.1."""

import json

from . import schemas, wire
from .answer import Answer, Usage, without

OPAQUE = ("thinking_blocks", "reasoning_details", "reasoning_content", "extra_content")


class Chat:
    name = "chat"

    def headers(self, key):
        return {"authorization": f"Bearer {key}"}

    def path(self, model, stream):
        return "/v1/chat/completions"

    def body(self, case, model, stream):
        body = {"model": model, "messages": [_message(case, *turn) for turn in case.turns]}
        if case.system:
            body["messages"].insert(0, {"role": "system", "content": case.system})
        if case.max_tokens:
            body["max_completion_tokens" if case.effort else "max_tokens"] = case.max_tokens
        if case.tools:
            functions = [dict(t, parameters=t["parameters"]) for t in case.tools]
            body["tools"] = [{"type": "function", "function": function} for function in functions]
        if case.choice in ("required", "none"):
            body["tool_choice"] = case.choice
        elif case.choice:
            body["tool_choice"] = {"type": "function", "function": {"name": case.choice}}
        if not case.parallel:
            body["parallel_tool_calls"] = False
        if case.schema:
            form = {"name": "answer", "schema": case.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if case.json:
            body["response_format"] = {"type": "json_object"}
        if case.effort:
            body["reasoning_effort"] = case.effort
        if case.temperature is not None:
            body["temperature"] = case.temperature
        if case.stop:
            body["stop"] = [case.stop]
        if case.sim:
            body["x_sim"] = case.sim
        if stream:
            body["stream"] = True
            if case.usage:
                body["stream_options"] = {"include_usage": True}
        return body

    def next(self, body, answer, results, strip):
        said = without(answer.native, OPAQUE) if strip else answer.native
        results = [{"role": "tool", "tool_call_id": id, "content": text} for id, text in zip(answer.ids, results)]
        return {**body, "messages": [*body["messages"], said, *results]}

    def more(self, body, answer, text, strip):
        said = without(answer.native, OPAQUE) if strip else answer.native
        return {**body, "messages": [*body["messages"], said, {"role": "user", "content": text}]}

    def error(self, reply):
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert error["message"] and error["type"], error
        return error["message"]

    def whole(self, reply):
        schemas.chat_completion(reply.body.decode())
        data = reply.json()
        (choice,) = data["choices"]
        message = choice["message"]
        assert "content" in message, f"no content, not even null: {message}"
        return _answer(message, choice["finish_reason"], data.get("usage"))

    def stream(self, reply, usage=True):
        events = wire.events(reply)
        assert all(event.name is None for event in events), "chat's events have no names"
        assert events[-1].data == "[DONE]", f"the last event is {events[-1].data[:200]}"
        # Azure's streams begin with one that is a chunk in nothing but its place; untranslated, it passes.
        first = events[0].json()
        foreign = "prompt_filter_results" in first and not first["choices"]
        chunks = [event.data for event in events[foreign:-1]]
        error = None
        if "error" in json.loads(chunks[-1]):
            error = json.loads(chunks.pop())["error"]
            assert set(error) == {"message", "type", "param", "code"}, error
        for chunk in chunks:
            schemas.chat_chunk(chunk)
        chunks = [json.loads(chunk) for chunk in chunks]
        _same(chunks)
        counted = _usage_chunk(chunks, usage and not error)
        message, finish = _fold([chunk["choices"][0] for chunk in chunks if chunk["choices"]])
        assert bool(finish) != bool(error), f"finish {finish!r} and error {error!r}"
        answer = _answer(message, finish, counted)
        answer.error = error and error["message"]
        answer.cost = chunks[-1].get("weir", {}).get("cost_usd")
        return answer


def _message(case, role, text):
    parts = [{"type": "text", "text": text}]
    if (role, text) == case.turns[-1]:
        if case.image:
            parts.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{case.image}"}})
        if case.file:
            data = f"data:application/pdf;base64,{case.file}"
            parts.append({"type": "file", "file": {"filename": "paper.pdf", "file_data": data}})
    return {"role": role, "content": parts if len(parts) > 1 else text}


def _same(chunks):
    for name in ("id", "object", "created", "model"):
        assert len({chunk[name] for chunk in chunks}) == 1, f"{name} differs between chunks"


def _usage_chunk(chunks, asked):
    """Asked for: one chunk more, without choices, and null before it. Else none."""
    if not asked:
        assert all(chunk["choices"] for chunk in chunks), "a chunk without choices that nobody asked for"
        assert all(chunk.get("usage") is None for chunk in chunks), "usage that nobody asked for"
        return None
    last = chunks[-1]
    assert last["choices"] == [] and last["usage"], f"no usage chunk at the end: {last}"
    for chunk in chunks[:-1]:
        assert chunk["choices"], f"no choices before the usage: {chunk}"
        assert chunk.get("usage") is None, f"usage before its chunk: {chunk}"
    return last["usage"]


def _fold(choices):
    message, finish, calls = {"role": "assistant", "content": None}, None, []
    assert choices, "a stream without a chunk"
    assert choices[0]["delta"].get("role") == "assistant", f"the first delta has no role: {choices[0]}"
    for choice in choices:
        assert choice["index"] == 0 and "finish_reason" in choice, choice
        assert finish is None, f"after the finish: {choice}"
        finish = choice["finish_reason"]
        delta = choice["delta"]
        for name in ("content", "refusal", "reasoning_content"):
            if delta.get(name):
                message[name] = (message.get(name) or "") + delta[name]
        for name in ("thinking_blocks", "reasoning_details"):
            if name in delta:
                _blocks(message.setdefault(name, []), delta[name])
        assert delta.get("tool_calls", [0]), f"tool_calls is left out when there are none: {delta}"
        for piece in delta.get("tool_calls", ()):
            _call(calls, piece)
    if calls:
        message["tool_calls"] = calls
    return message, finish


def _blocks(whole, pieces):
    """As OpenAI's own clients put the pieces of any list together: by their places in it."""
    for piece in pieces:
        index = piece["index"]
        assert type(index) is int and 0 <= index <= len(whole), f"{len(whole)} before {piece}"
        if index == len(whole):
            whole.append(dict(piece))
            continue
        assert whole[index]["type"] == piece["type"], f"after {whole[index]}: {piece}"
        for name, value in piece.items():
            if name in ("index", "type"):
                continue
            whole[index][name] = (whole[index].get(name) or "") + (value or "")


def _call(calls, piece):
    index = piece["index"]
    if index == len(calls):
        assert piece["id"] and piece["type"] == "function" and piece["function"]["name"], f"a call begins with {piece}"
        calls.append({"id": piece["id"], "type": "function", "function": {"name": piece["function"]["name"], "arguments": ""}})
    else:
        assert index == len(calls) - 1, f"calls one after the other, from 0: {piece}"
        assert not {"id", "type"} & set(piece) and "name" not in piece["function"], f"a call goes on with {piece}"
    calls[index]["function"]["arguments"] += piece["function"].get("arguments") or ""
    if "extra_content" in piece:
        calls[index]["extra_content"] = piece["extra_content"]


def _answer(message, finish, usage):
    assert message.get("tool_calls", [0]), f"tool_calls is left out when there are none: {message}"
    calls = message.get("tool_calls", [])
    if message.get("refusal") or finish == "content_filter":
        finish = "refusal"
    return Answer(
        text=message["content"] or message.get("refusal") or "",
        thoughts=message.get("reasoning_content") or "",
        calls=[(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls] if finish else [],
        ids=[call["id"] for call in calls],
        finish=finish,
        usage=usage and _usage(usage),
        native={name: value for name, value in message.items() if value is not None or name == "content"},
    )


def _usage(usage):
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"], usage
    return Usage(
        input=usage["prompt_tokens"],
        output=usage["completion_tokens"],
        cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        reasoning=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
    )

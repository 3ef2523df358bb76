"""A client of Anthropic's Messages. The rules of its streams are FEATURES 3.3."""

import json

from . import schemas, wire
from .answer import Answer, Usage

FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "refusal"}
PIECES = {"text": "text_delta", "tool_use": "input_json_delta", "thinking": "thinking_delta"}
BUDGETS = {"low": 1024}


class Messages:
    name = "messages"

    def headers(self, key):
        return {"x-api-key": key, "anthropic-version": "2023-06-01"}

    def path(self, model, stream):
        return "/anthropic/v1/messages"

    def body(self, case, model, stream):
        body = {
            "model": model,
            "max_tokens": case.max_tokens or 4096,
            "messages": [_message(case, *turn) for turn in case.turns],
        }
        if case.system:
            body["system"] = case.system
        if case.tools:
            body["tools"] = [
                {"name": t["name"], "description": t["description"], "input_schema": t["parameters"]} for t in case.tools
            ]
        choice = {"type": {"required": "any", "none": "none", None: "auto"}.get(case.choice, "tool")}
        if choice["type"] == "tool":
            choice["name"] = case.choice
        if not case.parallel:
            choice["disable_parallel_tool_use"] = True
        if choice != {"type": "auto"}:
            body["tool_choice"] = choice
        if case.schema:
            body["output_config"] = {"format": {"type": "json_schema", "schema": case.schema}}
        if case.effort:
            body["thinking"] = {"type": "enabled", "budget_tokens": BUDGETS[case.effort]}
        if case.temperature is not None:
            body["temperature"] = case.temperature
        if case.stop:
            body["stop_sequences"] = [case.stop]
        if case.sim:
            body["x_sim"] = case.sim
        if stream:
            body["stream"] = True
        return body

    def next(self, body, answer, results, strip):
        said = [block for block in answer.native if not (strip and "thinking" in block["type"])]
        results = [
            {"type": "tool_result", "tool_use_id": id, "content": text} for id, text in zip(answer.ids, results)
        ]
        turn = [{"role": "assistant", "content": said}, {"role": "user", "content": results}]
        return {**body, "messages": [*body["messages"], *turn]}

    def more(self, body, answer, text, strip):
        said = [block for block in answer.native if not (strip and "thinking" in block["type"])]
        turn = [{"role": "assistant", "content": said}, {"role": "user", "content": text}]
        return {**body, "messages": [*body["messages"], *turn]}

    def error(self, reply):
        schemas.message_error(reply.body.decode())
        assert reply.json()["request_id"], reply.json()
        return reply.json()["error"]["message"]

    def whole(self, reply):
        schemas.message(reply.body.decode())
        data = reply.json()
        assert "stop_sequence" in data, f"stop_sequence is null, not left out: {data}"
        return _answer(data["content"], data["stop_reason"], data["usage"])

    def stream(self, reply, usage=True):
        events = wire.events(reply)
        for event in events:
            schemas.message_event(event.data)
            assert event.name == event.json()["type"], f"{event.name} is called {event.json()['type']}"
        events = [event.json() for event in events if event.name != "ping"]
        kinds = [event["type"] for event in events]
        assert kinds[0] == "message_start" and kinds.count("message_start") == 1, kinds
        assert kinds[-1] == "message_stop" and kinds.count("message_stop") == 1, kinds[-3:]
        start, end = events[0]["message"], events[-2]
        assert start["content"] == [] and start["stop_reason"] is None, start
        blocks = _fold(events[1:-2])
        if end["type"] == "error":
            answer = _answer(blocks, None, start["usage"])
            answer.error = end["error"]["message"]
            return answer
        assert end["type"] == "message_delta", kinds[-3:]
        return _answer(blocks, end["delta"]["stop_reason"], {**start["usage"], **end["usage"]})


def _message(case, role, text):
    blocks = [{"type": "text", "text": text}]
    if (role, text) == case.turns[-1]:
        for kind, media_type, data in (("image", "image/png", case.image), ("document", "application/pdf", case.file)):
            if data:
                blocks.append({"type": kind, "source": {"type": "base64", "media_type": media_type, "data": data}})
    return {"role": role, "content": blocks if len(blocks) > 1 else text}


def _fold(events):
    """Blocks one after the other, from 0, each opened, filled with its own kind and closed."""
    blocks, open_one, json_of = [], None, {}
    for event in events:
        kind = event["type"]
        assert kind.startswith("content_block_"), f"{kind} among the blocks"
        if kind == "content_block_start":
            assert open_one is None and event["index"] == len(blocks), f"opened before {open_one} was closed: {event}"
            open_one = dict(event["content_block"])
            blocks.append(open_one)
            continue
        assert open_one is not None and event["index"] == len(blocks) - 1, f"of no open block: {event}"
        if kind == "content_block_stop":
            if open_one["type"] == "tool_use":
                assert open_one["input"] == {}, f"arguments come in pieces: {open_one}"
                written = json_of.get(len(blocks) - 1, "")
                try:
                    open_one["input"] = json.loads(written or "{}")
                except json.JSONDecodeError:
                    open_one["input"] = None  # Broke off; only right before an error, which the caller sees.
            open_one = None
            continue
        delta = event["delta"]
        if delta["type"] == "signature_delta":
            assert open_one["type"] == "thinking", event
            open_one["signature"] = (open_one.get("signature") or "") + delta["signature"]
        elif delta["type"] == "input_json_delta":
            assert open_one["type"] == "tool_use", event
            json_of[event["index"]] = json_of.get(event["index"], "") + delta["partial_json"]
        else:
            assert delta["type"] == PIECES.get(open_one["type"]), f"a piece of another kind: {event}"
            member = open_one["type"]
            open_one[member] += delta[member]
    assert open_one is None, f"never closed: {open_one}"
    return blocks


def _answer(blocks, stop_reason, usage):
    calls = [block for block in blocks if block["type"] == "tool_use"]
    read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    assert (stop_reason == "tool_use") == bool(calls) or stop_reason in (None, "max_tokens"), (stop_reason, calls)
    return Answer(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        thoughts="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        calls=[(block["name"], block["input"]) for block in calls] if stop_reason else [],
        ids=[block["id"] for block in calls],
        finish=FINISH[stop_reason] if stop_reason else None,
        usage=Usage(
            input=usage["input_tokens"] + read + written,
            output=usage["output_tokens"],
            cached=read,
            reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
        ),
        native=blocks,
    )

"""A client of OpenAI's Responses. The rules of its streams are FEATURES 3.2."""

import json

from . import schemas, wire
from .answer import Answer, Usage

# A whole response has them, if only as null or empty: clients with types of their own need them.
MEMBERS = (
    "id object created_at completed_at status error incomplete_details instructions max_output_tokens model output"
    " parallel_tool_calls previous_response_id reasoning store temperature text tool_choice tools top_p truncation usage"
    " metadata"
).split()
ENDS = ("response.completed", "response.incomplete", "response.failed")
# Deltas, what ends them, and where the whole of them is.
DONE = {
    "response.output_text.delta": ("response.output_text.done", "text"),
    "response.function_call_arguments.delta": ("response.function_call_arguments.done", "arguments"),
    "response.reasoning_summary_text.delta": ("response.reasoning_summary_text.done", "text"),
    "response.reasoning_text.delta": ("response.reasoning_text.done", "text"),
    "response.refusal.delta": ("response.refusal.done", "refusal"),
}
WHOLE = {done: member for done, member in DONE.values()}


class Responses:
    name = "responses"

    def headers(self, key):
        return {"authorization": f"Bearer {key}"}

    def path(self, model, stream):
        return "/v1/responses"

    def body(self, case, model, stream):
        body = {"model": model, "input": [_message(case, *turn) for turn in case.turns], "store": False}
        if case.system:
            body["instructions"] = case.system
        if case.max_tokens:
            body["max_output_tokens"] = case.max_tokens
        if case.tools:
            body["tools"] = [{"type": "function", "strict": False, **tool} for tool in case.tools]
        if case.choice in ("required", "none"):
            body["tool_choice"] = case.choice
        elif case.choice:
            body["tool_choice"] = {"type": "function", "name": case.choice}
        if not case.parallel:
            body["parallel_tool_calls"] = False
        if case.schema:
            body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": case.schema, "strict": True}}
        if case.json:
            body["text"] = {"format": {"type": "json_object"}}
        if case.effort:
            body["reasoning"] = {"effort": case.effort, "summary": "auto"}
            body["include"] = ["reasoning.encrypted_content"]
        if case.temperature is not None:
            body["temperature"] = case.temperature
        if case.sim:
            body["x_sim"] = case.sim
        if stream:
            body["stream"] = True
        return body

    def next(self, body, answer, results, strip):
        said = [item for item in answer.native if not (strip and item["type"] == "reasoning")]
        results = [
            {"type": "function_call_output", "call_id": id, "output": text} for id, text in zip(answer.ids, results)
        ]
        return {**body, "input": [*body["input"], *said, *results]}

    def more(self, body, answer, text, strip):
        said = [item for item in answer.native if not (strip and item["type"] == "reasoning")]
        return {**body, "input": [*body["input"], *said, {"role": "user", "content": text}]}

    def error(self, reply):
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert error["message"] and error["type"], error
        return error["message"]

    def whole(self, reply):
        return _answer(_response(reply.body.decode()))

    def stream(self, reply, usage=True):
        events = wire.events(reply)
        for event in events:
            schemas.response_event(event.data)
            assert event.name == event.json()["type"], f"{event.name} is called {event.json()['type']}"
        events = [event.json() for event in events]
        kinds = [event["type"] for event in events]
        assert kinds[:2] == ["response.created", "response.in_progress"], kinds[:3]
        assert [kind for kind in kinds if kind in ENDS] == kinds[-1:], f"one end, and nothing after it: {kinds[-3:]}"
        numbers = [event["sequence_number"] for event in events]
        assert numbers == list(range(len(numbers))), f"sequence numbers go up by one from 0: {numbers}"
        (id,) = {event["response"]["id"] for event in events if "response" in event}
        last = _response(json.dumps(events[-1]["response"]))
        assert id == last["id"]
        items = _fold([event for event in events[2:-1] if event["type"] != "error"])
        if last["status"] != "failed":
            assert items == last["output"], f"the end has other items than the stream: {last['output']} instead of {items}"
        answer = _answer(last)
        # A response that failed may have nothing of what it said.
        deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
        answer.text = answer.text or "".join(deltas)
        return answer


def _message(case, role, text):
    parts = [{"type": "input_text", "text": text}]
    if (role, text) == case.turns[-1]:
        if case.image:
            parts.append({"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{case.image}"})
        if case.file:
            data = f"data:application/pdf;base64,{case.file}"
            parts.append({"type": "input_file", "filename": "paper.pdf", "file_data": data})
    return {"role": role, "content": parts if len(parts) > 1 else text}


def _response(text):
    schemas.response(text)
    data = json.loads(text)
    missing = [name for name in MEMBERS if name not in data]
    assert not missing, f"a response without {missing}: {text[:1500]}"
    return data


def _fold(events):
    """Items one after the other, from 0; the whole of each equal to its pieces, and announced before them."""
    items, open_item, parts, pieces = [], None, {}, {}
    for event in events:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert open_item is None and event["output_index"] == len(items), f"added while another was open: {event}"
            open_item, parts, pieces = event["item"], {}, {}
            assert open_item.get("status", "in_progress") == "in_progress", open_item
            continue
        assert open_item is not None and event["output_index"] == len(items), f"of no open item: {event}"
        if kind == "response.output_item.done":
            item = event["item"]
            assert (item["id"], item["type"]) == (open_item["id"], open_item["type"]), (item, open_item)
            assert not pieces, f"never done: {pieces}"
            assert set(parts.values()) <= {"done"}, f"parts never done: {parts}"
            assert len(item.get("content") or ()) + len(item.get("summary") or ()) == len(parts), (item, parts)
            items.append(item)
            open_item = None
            continue
        assert event["item_id"] == open_item["id"], f"of another item: {event}"
        part = ("summary" if "summary" in kind else "content", event.get("content_index", event.get("summary_index")))
        if kind.endswith("part.added"):
            assert part not in parts, f"added twice: {event}"
            parts[part] = "open"
        elif kind.endswith("part.done"):
            assert parts.get(part) == "text done", f"{parts.get(part)}: {event}"
            parts[part] = "done"
        elif kind in DONE:
            assert part[1] is None or parts.get(part) == "open", f"of no open part: {event}"
            pieces[part] = pieces.get(part, "") + event["delta"]
        else:
            assert kind in WHOLE, f"what is {kind}?"
            assert pieces.pop(part, "") == event[WHOLE[kind]], f"not what its deltas were: {event}"
            if part[1] is not None:
                parts[part] = "text done"
    return items


def _answer(response):
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    contents = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    thoughts = [item for item in response["output"] if item["type"] == "reasoning"]
    thoughts = [part["text"] for item in thoughts for part in [*item["summary"], *(item.get("content") or [])]]
    finish = "tool_calls" if calls else "stop"
    if response["status"] == "incomplete":
        finish = {"max_output_tokens": "length", "content_filter": "refusal"}[response["incomplete_details"]["reason"]]
    elif any(part["type"] == "refusal" for part in contents):
        finish = "refusal"
    failed = response["status"] == "failed"
    assert failed == bool(response["error"]), (response["status"], response["error"])
    assert response["status"] != "completed" or response["completed_at"], response
    return Answer(
        text="".join(part.get("text", part.get("refusal", "")) for part in contents),
        thoughts="".join(thoughts),
        calls=[] if failed else [(call["name"], json.loads(call["arguments"])) for call in calls],
        ids=[call["call_id"] for call in calls],
        finish=None if failed else finish,
        usage=response["usage"] and _usage(response["usage"]),
        error=response["error"]["message"] if failed else None,
        native=response["output"],
    )


def _usage(usage):
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"], usage
    return Usage(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cached=usage["input_tokens_details"]["cached_tokens"],
        reasoning=usage["output_tokens_details"]["reasoning_tokens"],
    )

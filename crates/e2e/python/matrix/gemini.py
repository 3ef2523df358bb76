"""A client of Gemini's generateContent. The rules are FEATURES 3.4."""

import json

from . import schemas, wire
from .answer import Answer, Usage, without

FINISH = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "refusal"}
BUDGETS = {"low": 1024}


class Gemini:
    name = "gemini"

    def headers(self, key):
        return {"x-goog-api-key": key}

    def path(self, model, stream):
        return f"/genai/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")

    def body(self, case, model, stream):
        body = {"contents": [_content(case, *turn) for turn in case.turns]}
        config = {}
        if case.system:
            body["systemInstruction"] = {"parts": [{"text": case.system}]}
        if case.max_tokens:
            config["maxOutputTokens"] = case.max_tokens
        if case.tools:
            declared = [
                {"name": t["name"], "description": t["description"], "parametersJsonSchema": t["parameters"]}
                for t in case.tools
            ]
            body["tools"] = [{"functionDeclarations": declared}]
        calling = {"mode": {"none": "NONE", None: "AUTO"}.get(case.choice, "ANY")}
        if case.choice not in (None, "none", "required"):
            calling["allowedFunctionNames"] = [case.choice]
        if calling != {"mode": "AUTO"}:
            body["toolConfig"] = {"functionCallingConfig": calling}
        if case.schema:
            config |= {"responseMimeType": "application/json", "responseJsonSchema": case.schema}
        if case.json:
            config["responseMimeType"] = "application/json"
        if case.effort:
            config["thinkingConfig"] = {"includeThoughts": True, "thinkingBudget": BUDGETS[case.effort]}
        if case.temperature is not None:
            config["temperature"] = case.temperature
        if case.stop:
            config["stopSequences"] = [case.stop]
        if config:
            body["generationConfig"] = config
        if case.sim:
            body["x_sim"] = case.sim
        return body

    def next(self, body, answer, results, strip):
        said = _said(answer, strip)
        calls = [part["functionCall"] for part in said if "functionCall" in part]
        results = [
            {"functionResponse": {**{k: call[k] for k in ("id", "name") if k in call}, "response": {"result": text}}}
            for call, text in zip(calls, results)
        ]
        turn = [{"role": "model", "parts": said}, {"role": "user", "parts": results}]
        return {**body, "contents": [*body["contents"], *turn]}

    def more(self, body, answer, text, strip):
        turn = [{"role": "model", "parts": _said(answer, strip)}, {"role": "user", "parts": [{"text": text}]}]
        return {**body, "contents": [*body["contents"], *turn]}

    def error(self, reply):
        return _error(reply.json(), reply.status)

    def whole(self, reply):
        schemas.generated(reply.body.decode())
        data = reply.json()
        (candidate,) = data["candidates"]
        assert candidate.get("index", 0) == 0, candidate
        assert candidate["content"]["role"] == "model", candidate
        return _answer(candidate["content"].get("parts", []), candidate["finishReason"], data["usageMetadata"])

    def stream(self, reply, usage=True):
        events = wire.events(reply)
        assert all(event.name is None for event in events), "Gemini's events have no names"
        chunks, error = [event.data for event in events], None
        if "error" in json.loads(chunks[-1]):
            error = _error(json.loads(chunks.pop()))
        for chunk in chunks:
            schemas.generated(chunk)
        chunks = [json.loads(chunk) for chunk in chunks]
        for name in ("responseId", "modelVersion"):
            assert len({chunk[name] for chunk in chunks}) == 1, f"{name} differs between chunks"
        candidates = [candidate for chunk in chunks for candidate in chunk.get("candidates", ())]
        finishes = [candidate["finishReason"] for candidate in candidates if candidate.get("finishReason")]
        assert len(finishes) == (0 if error else 1), f"finished by {finishes} with error {error}"
        if not error:
            assert chunks[-1]["candidates"][0]["finishReason"], f"goes on after the finish: {chunks[-2:]}"
        parts = [part for candidate in candidates for part in candidate.get("content", {}).get("parts", ())]
        answer = _answer(_joined(parts), finishes[0] if finishes else None, chunks[-1].get("usageMetadata"))
        answer.error = error
        return answer


def _said(answer, strip):
    if not strip:
        return answer.native
    said = without([part for part in answer.native if not part.get("thought")], ("thoughtSignature",))
    return [part for part in said if part and part != {"text": ""}]


def _content(case, role, text):
    parts = [{"text": text}]
    if (role, text) == case.turns[-1]:
        for mime_type, data in (("image/png", case.image), ("application/pdf", case.file)):
            if data:
                parts.append({"inlineData": {"mimeType": mime_type, "data": data}})
    return {"role": {"assistant": "model"}.get(role, role), "parts": parts}


def _error(data, status=None):
    error = data["error"]
    assert set(error) <= {"code", "message", "status", "details"}, error
    assert isinstance(error["code"], int) and error["status"].isupper() and error["message"], error
    assert status in (None, error["code"]), f"{error['code']} said with {status}"
    return error["message"]


def _joined(parts):
    """Pieces of text after each other are one part; a signature ends its part."""
    joined = []
    for part in parts:
        last = joined[-1] if joined else {}
        both_text = "text" in part and "text" in last and part.get("thought") == last.get("thought")
        if both_text and "thoughtSignature" not in last:
            joined[-1] = {**last, **part, "text": last["text"] + part["text"]}
        else:
            joined.append(part)
    return joined


def _answer(parts, finish, usage):
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    text = lambda thought: "".join(p["text"] for p in parts if "text" in p and bool(p.get("thought")) == thought)
    finish = "tool_calls" if calls and finish == "STOP" else finish and FINISH[finish]
    return Answer(
        text=text(False),
        thoughts=text(True),
        calls=[(call["name"], call.get("args", {})) for call in calls] if finish else [],
        ids=[call.get("id") for call in calls],
        finish=finish,
        usage=usage and _usage(usage),
        native=parts,
    )


def _usage(usage):
    thoughts = usage.get("thoughtsTokenCount", 0)
    output = usage.get("candidatesTokenCount", 0) + thoughts
    prompt = usage["promptTokenCount"] + usage.get("toolUsePromptTokenCount", 0)
    assert usage["totalTokenCount"] == prompt + output, usage
    return Usage(input=prompt, output=output, cached=usage.get("cachedContentTokenCount", 0), reasoning=thoughts)

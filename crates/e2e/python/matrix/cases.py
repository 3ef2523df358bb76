"""What is asked, of whom, and which cells can't be as the others are: all data, read by test_matrix.py."""

import base64
import dataclasses

WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TIME = {
    "name": "get_time",
    "description": "The time.",
    "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
}
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
ORDER = {
    "type": "object",
    "properties": {
        "number": {"type": "integer"},
        "kind": {"type": "string", "enum": ["large", "small"]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "to": {"$ref": "#/$defs/place"},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/place"}},
    },
    "required": ["number", "kind", "note", "to", "parts"],
    "additionalProperties": False,
    "$defs": {"place": PLACE},
}
# With what most providers lack.
BOUNDED = {
    **ORDER,
    "properties": {
        **ORDER["properties"],
        "number": {"type": "integer", "minimum": 3, "multipleOf": 2},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/place"}, "minItems": 2, "maxItems": 4},
    },
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
# The least that is a PDF.
PAPER = base64.b64encode(
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
).decode()
# Slowly enough that what comes before a broken connection is read before it.
FORTY = {"tokens": 40, "token_ms": 4}
ANY = None


@dataclasses.dataclass(frozen=True)
class Case:
    """A question in no dialect, and what its answer is like."""

    name: str
    turns: tuple
    system: str = ""
    max_tokens: int = 500
    tools: tuple = ()
    # required, none, or a tool's name.
    choice: str | None = None
    parallel: bool = True
    schema: dict | None = None
    # Any JSON.
    json: bool = False
    # With the last turn, base64: a PNG, a PDF.
    image: str = ""
    file: str = ""
    effort: str = ""
    stop: str = ""
    temperature: float | None = None
    # Asked to tell the usage, in the dialect where that is asked.
    usage: bool = True
    # The simulator's faults.
    sim: dict | None = None
    # What must be true of every answer: its finish, and the tools it calls with their arguments.
    finish: str = "stop"
    calls: tuple = ()
    # What the tools answer, for another turn.
    results: tuple = ()
    # The status of an answer that is none: of the provider, and of us.
    status: int = 200
    # Breaks off after the status, streamed; unstreamed it is this status, or all is well (200).
    breaks: int | None = None
    # Silent for so long that the connection is kept alive.
    silent: bool = False
    # streamed or whole: the other makes no sense.
    only: str = ""


def user(text):
    return (("user", text),)


CASES = (
    Case("plain", user("Say hello.")),
    Case(
        "conversation",
        (("user", "Say hello."), ("assistant", "Hello!"), ("user", "Now say goodbye, in German: ä ö ü, 🦀.")),
        system="Be brief.",
    ),
    Case("length", user("Say hello."), max_tokens=16, finish="length"),
    Case("stop", user("Say hello."), stop="."),
    Case("temperature", user("Say hello."), temperature=0.5),
    Case("usage nobody asked for", user("Say hello."), usage=False, only="streamed"),
    Case(
        "tools",
        user('Use get_weather({"city": "Köln"}) please.'),
        tools=(WEATHER, TIME),
        finish="tool_calls",
        calls=(("get_weather", {"city": "Köln"}),),
        results=("sunny at noon",),
    ),
    Case(
        "parallel tools",
        user("Use get_weather and get_time please."),
        tools=(WEATHER, TIME),
        finish="tool_calls",
        calls=(("get_weather", ANY), ("get_time", {})),
        results=("sunny at noon", "half past four"),
    ),
    Case(
        "one at a time",
        user("Use get_weather and get_time please."),
        tools=(WEATHER, TIME),
        parallel=False,
        finish="tool_calls",
        calls=(("get_weather", ANY),),
    ),
    Case(
        "must call",
        user("Say hello."),
        tools=(WEATHER,),
        choice="required",
        finish="tool_calls",
        calls=(("get_weather", ANY),),
    ),
    Case(
        "must call it",
        user("Say hello."),
        tools=(WEATHER, TIME),
        choice="get_time",
        finish="tool_calls",
        calls=(("get_time", {}),),
    ),
    Case("may not call", user("Use get_weather please."), tools=(WEATHER,), choice="none"),
    Case(
        "words before a call",
        user("Use get_weather please."),
        tools=(WEATHER,),
        sim={"preamble": True},
        finish="tool_calls",
        calls=(("get_weather", ANY),),
        results=("sunny at noon",),
    ),
    Case("schema", user("Order something."), schema=ORDER),
    Case("json", user("Say hello in JSON."), json=True),
    Case("bounded schema", user("Order something."), schema=BOUNDED, only="whole"),
    Case("repaired", user("Order something."), schema=BOUNDED, sim={"off_schema": "once"}, only="whole"),
    Case("image", user("What is this?"), image=PIXEL),
    Case("file", user("What does it say?"), file=PAPER),
    Case(
        "thinking",
        user("Think, and use get_weather."),
        tools=(WEATHER,),
        effort="low",
        max_tokens=3000,
        finish="tool_calls",
        calls=(("get_weather", ANY),),
        results=("sunny at noon",),
    ),
    Case(
        "redacted thoughts",
        user("Think, and use get_weather."),
        tools=(WEATHER,),
        effort="low",
        max_tokens=3000,
        sim={"redacted": True},
        finish="tool_calls",
        calls=(("get_weather", ANY),),
        results=("sunny at noon",),
    ),
    Case("declined", user("Say hello."), sim={"refusal": True}, finish="refusal"),
    Case("byte by byte", user("Say hello: ä ö ü 🦀."), sim={"chunk_bytes": 1}, only="streamed"),
    Case(
        "calls byte by byte",
        user('Use get_weather({"city": "Köln"}) and get_time please.'),
        tools=(WEATHER, TIME),
        sim={"chunk_bytes": 1},
        only="streamed",
        finish="tool_calls",
        calls=(("get_weather", {"city": "Köln"}), ("get_time", {})),
    ),
    Case("uncounted", user("Say hello."), sim={"no_usage": True}),
    Case("refused", user("Say hello."), sim={"status": 400}, status=400),
    Case("busy", user("Say hello."), sim={"status": 429, "retry_after": 7}, status=429),
    Case("broken", user("Say hello."), sim={"status": 500}, status=500),
    Case("error midway", user("Say hello."), sim={"status": 500, "cut_after": 9, **FORTY}, breaks=500),
    Case("cut", user("Say hello."), sim={"cut_after": 9, **FORTY}, breaks=502),
    Case("silence", user("Say hello."), sim={"pause_ms": 12_000, "pause_after": 5, **FORTY}, silent=True, only="streamed"),
    Case("no end", user("Say hello."), sim={"no_end": True, **FORTY}, breaks=200, only="streamed"),
    Case("malformed", user("Say hello."), sim={"malformed": True, "cut_after": 9, **FORTY}, breaks=502),
)


@dataclasses.dataclass(frozen=True)
class Provider:
    """One of the simulator's dialects, behind a provider's name."""

    name: str
    # The client that speaks its dialect, for whom nothing is translated.
    native: str | None
    # The model that thinks, and whether its thoughts are shown.
    thinker: str = "sim-think"
    shown: bool = True


MODEL = "sim-small"
PROVIDERS = (
    Provider("simulator", "chat", thinker="gpt-5-mini", shown=False),
    Provider("simulator-responses", "responses", thinker="gpt-5-mini"),
    Provider("simulator-anthropic", "messages"),
    Provider("simulator-gemini", "gemini"),
    Provider("simulator-mistral", None, thinker="magistral-medium-latest"),
    Provider("simulator-ollama", None, thinker="qwen3:8b"),
    Provider("simulator-bedrock", None, thinker="anthropic.claude-sonnet-4-5-20250929-v1:0"),
    Provider("simulator-azure", "chat", thinker="gpt-5-mini", shown=False),
    Provider("simulator-vertex", "gemini"),
    Provider("simulator-vertex-anthropic", "messages"),
)


# What the members of a request are called by each client: warnings name them so.
NAMES = {
    "format": ("response_format", "text.format", "output_config.format", "generationConfig.responseSchema"),
    "stop": ("stop", None, "stop_sequences", "generationConfig.stopSequences"),
    "file": (
        "messages.content.document",
        "input.content.input_file",
        "messages.content.document",
        "contents.parts.inlineData",
    ),
    "choice": ("tool_choice", "tool_choice", "tool_choice", "toolConfig.functionCallingConfig"),
    "parallel": ("parallel_tool_calls", "parallel_tool_calls", "tool_choice.disable_parallel_tool_use", None),
}


def warning(client, said):
    """`dropped;stop`, as this client is told."""
    how, _, what = said.partition(";")
    return f"{how};{NAMES[what][('chat', 'responses', 'messages', 'gemini').index(client)]}"


@dataclasses.dataclass(frozen=True)
class Except:
    """A cell that is not as the others; `*` is any.

    It is asked all the same: `warns` must be in x-weir-warnings, in the client's words, and what `skips` names is not
    compared (calls, text, finish, usage) or not asked (stripped: the next turn without the state; whole, streamed, all).
    """

    client: str
    provider: str
    case: str
    why: str
    warns: str = ""
    skips: tuple = ()

    def is_of(self, client, provider, case):
        mine = ((self.client, client), (self.provider, provider), (self.case, case))
        return all(pattern in ("*", value) for pattern, value in mine)


ASIS = "untranslated, it passes as it came"
NATIVE = tuple((provider.native, provider.name) for provider in PROVIDERS if provider.native)
EXCEPTIONS = (
    # What clients can't ask for.
    Except("responses", "*", "stop", "Responses has no stop sequences", skips=("all",)),
    Except("gemini", "*", "one at a time", "generateContent can't ask for it", skips=("all",)),
    Except("messages", "*", "json", "Messages can't ask for it", skips=("all",)),
    # What passes untouched.
    *(Except(client, provider, "malformed", ASIS, skips=("all",)) for client, provider in NATIVE),
    *(
        Except(client, provider, "uncounted", ASIS, skips=("whole",) if client == "chat" else ("all",))
        for client, provider in NATIVE
    ),
    *(
        Except(client, provider, case, "untranslated: the provider says what it misses", skips=("stripped",))
        for client, provider in NATIVE
        if client != "chat"
        for case in ("thinking", "redacted thoughts")
    ),
    *(
        Except("messages", provider, "bounded schema", "Anthropic takes no bounds, and says so", skips=("all",))
        for provider in ("simulator-anthropic", "simulator-vertex-anthropic")
    ),
    # OpenAI ends a call that was forced by name with `stop`: https://platform.openai.com/docs/guides/function-calling
    Except("*", "*", "must call it", "the provider's own word, or ours", skips=("finish",)),
    # What providers lack.
    Except("*", "simulator-responses", "stop", "Responses has no stop sequences", warns="dropped;stop", skips=("text",)),
    *(
        Except(
            client, provider, "one at a time", "it has no such switch", warns="dropped;parallel", skips=("calls",)
        )
        for provider in ("simulator-gemini", "simulator-vertex", "simulator-ollama", "simulator-bedrock")
        for client in ("chat", "responses", "messages")
    ),
    *(
        Except(
            "*", "simulator-ollama", case, "Ollama has no tool_choice", warns=warns, skips=("calls", "text", "finish")
        )
        for case, warns in (("must call", "dropped;choice"), ("must call it", "altered;choice"))
    ),
    *(
        Except("*", provider, "json", "it is asked in words, and the simulator is deaf to them", skips=("text",))
        for provider in ("simulator-anthropic", "simulator-bedrock", "simulator-vertex-anthropic")
    ),
    Except("*", "simulator-ollama", "file", "Ollama takes images alone", warns="dropped;file"),
    Except("*", "simulator-mistral", "declined", "Mistral has no way to say so", skips=("finish",)),
    Except("*", "simulator-ollama", "declined", "Ollama has no way to say so", skips=("finish",)),
    *(
        Except("*", provider, "repaired", "it takes the whole schema, and answers for it", skips=("all",))
        for provider in (
            "simulator",
            "simulator-responses",
            "simulator-mistral",
            "simulator-azure",
        )
    ),
    *(Except(client, provider, "repaired", ASIS, skips=("all",)) for client, provider in NATIVE),
    *(
        Except(client, provider, case, "bounds are checked here", warns="altered;format")
        for provider, native in (
            ("simulator-anthropic", "messages"),
            ("simulator-vertex-anthropic", "messages"),
            ("simulator-gemini", "gemini"),
            ("simulator-vertex", "gemini"),
            ("simulator-ollama", None),
            ("simulator-bedrock", None),
        )
        for client in ("chat", "responses", "messages", "gemini")
        for case in ("bounded schema", "repaired")
        if client != native
    ),
)

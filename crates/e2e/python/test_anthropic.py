"""Anthropic's official client, unmodified, before a real house; and OpenAI's, with a provider that speaks Anthropic's
dialect behind it.

Pinned in scripts/requirements-test.txt. Runs with unittest or pytest.
"""

import json
import unittest

import anthropic
import openai
import pydantic

from house import House, until
from models import for_each

HELLO = [{"role": "user", "content": "Say hello."}]
# Of a provider that speaks Anthropic's dialect, and of one that speaks OpenAI's.
CLAUDE, GPT = "claude-haiku-4-5", "gpt-4o-mini"
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TIME = {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="

house = None


def setUpModule():
    global house
    house = House()


def tearDownModule():
    house.stop()


def client(key=None, base="", **options):
    options.setdefault("max_retries", 0)
    base = house.dev["gateway"] + base
    return anthropic.Anthropic(base_url=base, api_key=key or house.dev["api_key"], timeout=60, **options)


def openai_client(base="/v1"):
    base = house.dev["gateway"] + base
    return openai.OpenAI(base_url=base, api_key=house.dev["api_key"], timeout=60, max_retries=0)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


class Messages(unittest.TestCase):
    def test_plain_and_streamed(self):
        for model in (CLAUDE, GPT):
            with self.subTest(model), client() as c:
                plain = c.messages.create(model=model, max_tokens=200, messages=HELLO)
                with c.messages.stream(model=model, max_tokens=200, messages=HELLO) as stream:
                    text = "".join(stream.text_stream)
                    final = stream.get_final_message()
                self.assertEqual((plain.type, plain.role, plain.stop_reason), ("message", "assistant", "end_turn"))
                self.assertTrue(plain.id.startswith("msg_"))
                self.assertEqual(text, text_of(plain))
                self.assertEqual(text_of(final), text)
                self.assertEqual(final.stop_reason, "end_turn")
                self.assertEqual(final.usage.output_tokens, plain.usage.output_tokens)
                self.assertEqual(final.usage.input_tokens, plain.usage.input_tokens)
                self.assertGreater(plain.usage.input_tokens, 0)

    def test_events_in_their_order(self):
        for model in (CLAUDE, GPT):
            with self.subTest(model), client() as c:
                events = list(c.messages.create(model=model, max_tokens=200, messages=HELLO, stream=True))
                kinds = [event.type for event in events]
                self.assertEqual(kinds[:2], ["message_start", "content_block_start"])
                self.assertEqual(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])
                self.assertEqual(set(kinds[2:-3]), {"content_block_delta"})

    def test_bounds_and_stop_sequences(self):
        for model in (CLAUDE, GPT):
            with self.subTest(model), client() as c:
                cut = c.messages.create(model=model, max_tokens=5, messages=HELLO)
                self.assertEqual((cut.stop_reason, cut.usage.output_tokens), ("max_tokens", 5))
                stopped = c.messages.create(model=model, max_tokens=200, messages=HELLO, stop_sequences=["."])
                self.assertNotIn(".", text_of(stopped))
        with client() as c:
            stopped = c.messages.create(model=CLAUDE, max_tokens=200, messages=HELLO, stop_sequences=["."])
        self.assertEqual((stopped.stop_reason, stopped.stop_sequence), ("stop_sequence", "."))

    def test_system_and_images(self):
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
        messages = [{"role": "user", "content": [image, {"type": "text", "text": "What is this?"}]}]
        for model in (CLAUDE, GPT):
            with self.subTest(model), client() as c:
                message = c.messages.create(model=model, max_tokens=50, messages=messages, system="Be brief.")
                self.assertTrue(text_of(message))

    def test_the_cache_is_counted_apart(self):
        marked = [{"type": "text", "text": "A long text. " * 2000, "cache_control": {"type": "ephemeral"}}]
        with client() as c:
            message = c.messages.create(model=CLAUDE, max_tokens=50, messages=HELLO, system=marked)
        usage = message.usage
        self.assertGreater(usage.cache_creation_input_tokens + usage.cache_read_input_tokens, 4096)
        before = house.call("GET", "/v1/users/me/usage")[1]
        with client() as c:
            usage = c.messages.create(model=CLAUDE, max_tokens=50, messages=HELLO, system=marked).usage
        whole = usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens

        def counted():
            after = house.call("GET", "/v1/users/me/usage")[1]
            grown = lambda name: after["totals"][name] - before["totals"][name]
            return (grown("input_tokens"), grown("cache_read_tokens")) >= (whole, usage.cache_read_input_tokens)

        until("the usage was counted", counted)

    def test_headers(self):
        with client() as c:
            raw = c.messages.with_raw_response.create(model=CLAUDE, max_tokens=50, messages=HELLO)
            message = raw.parse()
        self.assertTrue(raw.headers["request-id"])
        self.assertEqual(message._request_id, raw.headers["request-id"])
        self.assertEqual(raw.headers["x-weir-model"], CLAUDE)

    def test_beta_and_the_other_base_url(self):
        with client(base="/anthropic") as c:
            message = c.beta.messages.create(
                model=CLAUDE, max_tokens=50, messages=HELLO, betas=["interleaved-thinking-2025-05-14"]
            )
            models = list(c.models.list())
            one = c.models.retrieve(CLAUDE)
        self.assertTrue(message.content)
        self.assertIn(CLAUDE, [model.id for model in models])
        self.assertEqual((one.id, one.type), (CLAUDE, "model"))

    def test_counted_tokens_are_those_of_the_message(self):
        with client() as c:
            for model in (CLAUDE, GPT):
                ask = {"model": model, "messages": HELLO}
                counted = c.messages.count_tokens(**ask)
                self.assertGreater(counted.input_tokens, 0)
            message = c.messages.create(model=CLAUDE, max_tokens=50, messages=HELLO)
            self.assertEqual(c.messages.count_tokens(model=CLAUDE, messages=HELLO).input_tokens, message.usage.input_tokens)


class Tools(unittest.TestCase):
    def test_a_round(self):
        for model in (CLAUDE, GPT):
            with self.subTest(model), client() as c:
                messages = [{"role": "user", "content": "Use get_weather and get_time please."}]
                ask = {"model": model, "max_tokens": 300, "tools": [WEATHER, TIME]}
                message = c.messages.create(messages=messages, **ask)
                self.assertEqual(message.stop_reason, "tool_use")
                calls = [block for block in message.content if block.type == "tool_use"]
                self.assertEqual([call.name for call in calls], ["get_weather", "get_time"])
                self.assertIn("city", calls[0].input)
                with c.messages.stream(messages=messages, **ask) as stream:
                    final = stream.get_final_message()
                streamed = [block for block in final.content if block.type == "tool_use"]
                self.assertEqual([call.input for call in streamed], [call.input for call in calls])
                results = [
                    {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny at noon"}]}
                    for call in calls
                ]
                messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
                after = c.messages.create(messages=messages, **ask)
                self.assertTrue(text_of(after).startswith("The result says sunny at noon"), text_of(after))

    def test_choices(self):
        for model in (CLAUDE, GPT):
            with self.subTest(model), client() as c:
                ask = {"model": model, "max_tokens": 300, "tools": [WEATHER, TIME], "messages": HELLO}
                forced = c.messages.create(tool_choice={"type": "tool", "name": "get_time"}, **ask)
                self.assertEqual([b.name for b in forced.content], ["get_time"])
                self.assertEqual(forced.stop_reason, "tool_use")
                some = c.messages.create(tool_choice={"type": "any"}, **ask)
                self.assertEqual([b.type for b in some.content], ["tool_use"])
                none = c.messages.create(tool_choice={"type": "none"}, **ask)
                self.assertEqual([b.type for b in none.content], ["text"])
                ask["messages"] = [{"role": "user", "content": "Use get_weather and get_time please."}]
                choice = {"type": "auto", "disable_parallel_tool_use": True}
                self.assertEqual(len(c.messages.create(tool_choice=choice, **ask).content), 1)


    @for_each(CLAUDE, GPT)
    def test_the_tool_runner_calls_our_function_and_goes_on(self, model):
        asked = []

        @anthropic.beta_tool
        def get_weather(city: str) -> str:
            """The weather in a city."""
            asked.append(city)
            return "sunny at noon"

        messages = [{"role": "user", "content": 'Ask get_weather({"city": "Oslo"}).'}]
        for stream in (False, True):
            with client() as c:
                runner = c.beta.messages.tool_runner(
                    model=model, max_tokens=300, messages=messages, tools=[get_weather], stream=stream
                )
                final = runner.until_done()
            self.assertIn("sunny at noon", text_of(final))
        self.assertEqual(asked, ["Oslo", "Oslo"])


class Place(pydantic.BaseModel):
    city: str
    rank: int


class Parsed(unittest.TestCase):
    @for_each(CLAUDE, GPT)
    def test_parse(self, model):
        ask = {"model": model, "max_tokens": 300, "messages": [{"role": "user", "content": "A place."}], "output_format": Place}
        with client() as c:
            parsed = c.messages.parse(**ask)
            with c.messages.stream(**ask) as stream:
                final = stream.get_final_message()
        self.assertIsInstance(parsed.parsed_output, Place)
        self.assertEqual(final.parsed_output, parsed.parsed_output)


class Thinking(unittest.TestCase):
    ask = {"model": CLAUDE, "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}}

    def test_signatures_come_back_as_they_went(self):
        messages = [{"role": "user", "content": "Think, and use get_weather."}]
        with client() as c:
            message = c.messages.create(messages=messages, tools=[WEATHER], **self.ask)
            self.assertEqual([block.type for block in message.content], ["thinking", "tool_use"])
            self.assertTrue(message.content[0].thinking and message.content[0].signature)
            with c.messages.stream(messages=messages, tools=[WEATHER], **self.ask) as stream:
                self.assertEqual(stream.get_final_message().content[0], message.content[0])
            result = {"type": "tool_result", "tool_use_id": message.content[1].id, "content": "sunny"}
            turn = [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
            after = c.messages.create(messages=messages + turn, tools=[WEATHER], **self.ask)
            self.assertTrue(text_of(after))
            forged = [block.model_dump() for block in message.content]
            forged[0]["thinking"] += "!"
            turn[0]["content"] = forged
            with self.assertRaises(anthropic.BadRequestError) as caught:
                c.messages.create(messages=messages + turn, tools=[WEATHER], **self.ask)
        self.assertIn("signature", caught.exception.message)

    def test_thoughts_without_a_signature_are_left_out(self):
        unsigned = {"type": "thinking", "thinking": "another model thought this", "signature": ""}
        turn = {"role": "assistant", "content": [unsigned, {"type": "text", "text": "Hello!"}]}
        with client() as c:
            message = c.messages.create(messages=[*HELLO, turn, HELLO[0]], **self.ask)
        self.assertTrue(text_of(message))

    def test_thoughts_travel_with_openai_s_client(self):
        tools = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER["input_schema"]}}]
        messages = [{"role": "user", "content": "Think, and use get_weather."}]
        ask = {"model": CLAUDE, "tools": tools, "reasoning_effort": "low"}
        with openai_client() as c:
            said = c.chat.completions.create(messages=messages, **ask).choices[0].message
            self.assertTrue(said.reasoning_content)
            result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "sunny"}
            turn = [said.model_dump(exclude_none=True), result]
            after = c.chat.completions.with_raw_response.create(messages=messages + turn, **ask)
            self.assertTrue(after.parse().choices[0].message.reasoning_content)
            # A client may drop what it doesn't know: it was kept for it.
            turn[0] = {name: turn[0][name] for name in ("role", "tool_calls")}
            after = c.chat.completions.with_raw_response.create(messages=messages + turn, **ask)
        self.assertNotIn("dropped", after.headers.get("x-weir-warnings", ""))
        self.assertTrue(after.parse().choices[0].message.reasoning_content)


class Errors(unittest.TestCase):
    def refused(self, kind, key=None, **ask):
        ask = {"model": CLAUDE, "max_tokens": 50, "messages": HELLO, **ask}
        with client(key) as c, self.assertRaises(kind) as caught:
            c.messages.create(**ask)
        return caught.exception

    def test_wrong_key(self):
        error = self.refused(anthropic.AuthenticationError, key="pk_live_nonsense")
        self.assertEqual((error.status_code, error.type), (401, "authentication_error"))
        self.assertTrue(error.request_id)

    def test_unknown_model_and_wrong_values(self):
        self.assertEqual(self.refused(anthropic.NotFoundError, model="no-such-model").type, "not_found_error")
        error = self.refused(anthropic.BadRequestError, messages=[{"role": "wizard", "content": "x"}])
        self.assertIn("messages.0.role", error.message)
        self.assertEqual(error.type, "invalid_request_error")
        self.refused(anthropic.BadRequestError, max_tokens=0)

    def test_over_rate(self):
        key = house.limited_key(1)
        with client(key) as c:
            c.messages.create(model=CLAUDE, max_tokens=50, messages=HELLO)
        error = self.refused(anthropic.RateLimitError, key=key)
        self.assertEqual(error.type, "rate_limit_error")
        self.assertGreater(int(error.response.headers["retry-after"]), 0)
        self.assertEqual(error.response.headers["anthropic-ratelimit-requests-remaining"], "0")

    def test_provider_s_errors(self):
        for model in (CLAUDE, GPT):
            for status, kind in (
                (400, anthropic.BadRequestError),
                (429, anthropic.RateLimitError),
                (500, anthropic.InternalServerError),
                (529, anthropic.InternalServerError),
            ):
                with self.subTest(model=model, status=status):
                    error = self.refused(kind, model=model, extra_body={"x_sim": {"status": status}})
                    self.assertEqual(error.status_code, status)
                    self.assertTrue(error.api_message)
        overloaded = self.refused(anthropic.APIStatusError, extra_body={"x_sim": {"status": 529}})
        self.assertEqual(overloaded.type, "overloaded_error")

    def test_a_stream_that_breaks_off(self):
        for model in (CLAUDE, GPT):
            for fault in ({"cut_after": 5}, {"cut_after": 5, "status": 529}):
                with self.subTest(model=model, fault=fault), client() as c:
                    wish = {"x_sim": {"tokens": 50, "token_ms": 5, **fault}}
                    stream = c.messages.create(
                        model=model, max_tokens=200, messages=HELLO, stream=True, extra_body=wish
                    )
                    kinds = []
                    with self.assertRaises(anthropic.APIStatusError) as caught:
                        for event in stream:
                            kinds.append(event.type)
                    # What was open is closed before the error.
                    self.assertEqual(kinds[0], "message_start")
                    self.assertEqual(kinds.count("content_block_start"), kinds.count("content_block_stop"))
                    self.assertIn(caught.exception.type, ("api_error", "overloaded_error"))

    def test_cancelled_in_the_middle(self):
        before = house.ledger()["cancelled"]["calls"]
        with client() as c:
            stream = c.messages.create(
                model=CLAUDE,
                max_tokens=9000,
                messages=HELLO,
                stream=True,
                extra_body={"x_sim": {"tokens": 5000, "token_ms": 20}},
            )
            for _, _ in zip(range(3), stream):
                pass
            stream.close()
        until("the provider saw the end", lambda: house.ledger()["cancelled"]["calls"] > before)


class OpenAiClient(unittest.TestCase):
    """OpenAI's client, and a provider of Anthropic's dialect."""

    def test_plain_and_streamed(self):
        for base in ("/v1", "/openai/v1", "/openai"):
            with openai_client(base) as c:
                plain = c.chat.completions.create(model=CLAUDE, messages=HELLO)
                options = {"include_usage": True}
                chunks = list(
                    c.chat.completions.create(model=CLAUDE, messages=HELLO, stream=True, stream_options=options)
                )
            self.assertEqual((plain.object, plain.choices[0].finish_reason), ("chat.completion", "stop"))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            self.assertEqual(text, plain.choices[0].message.content)
            self.assertEqual(chunks[-1].usage, plain.usage)
            self.assertEqual([c.choices[0].finish_reason for c in chunks if c.choices][-1], "stop")

    def test_tools(self):
        tools = [
            {"type": "function", "function": {"name": tool["name"], "parameters": tool["input_schema"]}}
            for tool in (WEATHER, TIME)
        ]
        messages = [{"role": "user", "content": "Use get_weather and get_time please."}]
        with openai_client() as c:
            plain = c.chat.completions.create(model=CLAUDE, messages=messages, tools=tools)
            said = plain.choices[0].message
            with c.chat.completions.stream(model=CLAUDE, messages=messages, tools=tools) as stream:
                final = stream.get_final_completion().choices[0]
            results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in said.tool_calls]
            turn = [said.model_dump(exclude_none=True), *results]
            after = c.chat.completions.create(model=CLAUDE, messages=messages + turn, tools=tools)
        self.assertEqual(plain.choices[0].finish_reason, "tool_calls")
        self.assertEqual([call.function.name for call in said.tool_calls], ["get_weather", "get_time"])
        self.assertIn("city", json.loads(said.tool_calls[0].function.arguments))
        arguments = lambda message: [json.loads(call.function.arguments) for call in message.tool_calls]
        self.assertEqual(arguments(final.message), arguments(said))
        self.assertTrue(after.choices[0].message.content.startswith("The result says sunny"))

    def test_structured_output(self):
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
        with openai_client() as c:
            answer = c.chat.completions.create(model=CLAUDE, messages=HELLO, response_format=form)
        self.assertEqual(json.loads(answer.choices[0].message.content), {"n": 0})

    def test_errors(self):
        with openai_client() as c:
            with self.assertRaises(openai.RateLimitError):
                c.chat.completions.create(model=CLAUDE, messages=HELLO, extra_body={"x_sim": {"status": 429}})
            with self.assertRaises(openai.InternalServerError) as caught:
                c.chat.completions.create(model=CLAUDE, messages=HELLO, extra_body={"x_sim": {"status": 529}})
            self.assertEqual(caught.exception.status_code, 503)
            stream = c.chat.completions.create(
                model=CLAUDE, messages=HELLO, stream=True, extra_body={"x_sim": {"tokens": 50, "token_ms": 5, "cut_after": 5}}
            )
            with self.assertRaises(openai.APIError) as caught:
                list(stream)
        self.assertEqual(caught.exception.code, "upstream_failed")


if __name__ == "__main__":
    unittest.main()

"""The official OpenAI client, unmodified, before a real house.

Pinned in scripts/requirements-test.txt. Runs with unittest or pytest.
"""

import asyncio
import json
import unittest

import openai

from house import House, until

HELLO = [{"role": "user", "content": "Say hello."}]
MODEL = "gpt-4o-mini"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}

house = None


def setUpModule():
    global house
    house = House()


def tearDownModule():
    house.stop()


def client(key=None, base="/v1", kind=openai.OpenAI, **options):
    options.setdefault("max_retries", 0)
    return kind(base_url=house.dev["gateway"] + base, api_key=key or house.dev["api_key"], timeout=60, **options)


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


class Chat(unittest.TestCase):
    def test_plain(self):
        with client() as c:
            answer = c.chat.completions.create(model=MODEL, messages=HELLO)
        self.assertEqual(answer.object, "chat.completion")
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_streamed(self):
        with client() as c:
            plain = c.chat.completions.create(model=MODEL, messages=HELLO)
            chunks = list(c.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
        self.assertEqual(text_of(chunks), plain.choices[0].message.content)
        self.assertGreater(len(chunks), 2)
        self.assertEqual(chunks[-1].choices[0].finish_reason, "stop")
        self.assertTrue(all(c.usage is None for c in chunks))

    def test_usage_chunk(self):
        with client() as c:
            plain = c.chat.completions.create(model=MODEL, messages=HELLO)
            options = {"include_usage": True}
            chunks = list(c.chat.completions.create(model=MODEL, messages=HELLO, stream=True, stream_options=options))
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage, plain.usage)
        self.assertTrue(all(c.usage is None for c in chunks[:-1]))

    def test_stream_helper(self):
        with client() as c, c.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        self.assertIn("content.delta", kinds)
        self.assertTrue(final.choices[0].message.content)

    def test_several_choices(self):
        with client() as c:
            answer = c.chat.completions.create(model=MODEL, messages=HELLO, n=3)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2])

    def test_tools(self):
        ask = {"model": MODEL, "messages": HELLO, "tools": [WEATHER], "tool_choice": "required"}
        with client() as c:
            plain = c.chat.completions.create(**ask)
            call = plain.choices[0].message.tool_calls[0]
            chunks = list(c.chat.completions.create(**ask, stream=True))
            result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
            said = plain.choices[0].message.model_dump(exclude_none=True)
            after = c.chat.completions.create(model=MODEL, messages=[*HELLO, said, result], tools=[WEATHER])
        self.assertEqual((call.function.name, plain.choices[0].finish_reason), ("get_weather", "tool_calls"))
        self.assertIn("city", json.loads(call.function.arguments))
        deltas = [c.choices[0].delta for c in chunks if c.choices]
        pieces = [t for d in deltas for t in d.tool_calls or []]
        self.assertEqual("".join(p.function.arguments or "" for p in pieces), call.function.arguments)
        self.assertEqual(after.object, "chat.completion")

    def test_raw_response_headers(self):
        with client() as c:
            raw = c.chat.completions.with_raw_response.create(
                model=MODEL, messages=HELLO, extra_headers={"x-request-id": "python-1"}
            )
        self.assertEqual(raw.status_code, 200)
        self.assertEqual(raw.headers["x-request-id"], "python-1")
        self.assertTrue(raw.headers["x-weir-provider"])
        self.assertEqual(raw.headers["x-weir-model"], MODEL)
        self.assertTrue(raw.parse().choices[0].message.content)

    def test_the_other_base_url(self):
        with client(base="/api/v1") as c:
            answer = c.chat.completions.create(model=MODEL, messages=HELLO)
            models = c.models.list()
        self.assertTrue(answer.choices[0].message.content)
        self.assertIn(MODEL, [m.id for m in models])

    def test_unknown_fields_pass(self):
        with client() as c:
            answer = c.chat.completions.create(model=MODEL, messages=HELLO, extra_body={"x_sim": {"tokens": 7}})
        self.assertEqual(answer.usage.completion_tokens, 7)

    def test_models(self):
        with client() as c:
            ids = [model.id for model in c.models.list()]
            one = c.models.retrieve(MODEL)
            self.assertRaises(openai.NotFoundError, c.models.retrieve, "no-such-model")
        self.assertIn(MODEL, ids)
        self.assertEqual((one.id, one.object), (MODEL, "model"))


class Thoughts(unittest.TestCase):
    """The client's own helper puts together what it does not know by its `index`, else it throws."""

    thinkers = (
        ("simulator-anthropic/claude-sonnet-4-5", {"reasoning_effort": "low"}),
        ("simulator-bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0", {"reasoning_effort": "low"}),
        ("simulator-gemini/gemini-2.5-flash", {"reasoning_effort": "low"}),
        ("simulator-gemini/gemini-3-pro-preview", {"reasoning_effort": "low"}),
        ("simulator-responses/gpt-5-mini", {"reasoning_effort": "low"}),
        ("simulator-mistral/magistral-medium-latest", {}),
        ("simulator-ollama/qwen3:8b", {}),
    )

    def test_put_together_and_sent_back(self):
        messages = [{"role": "user", "content": "Use get_weather please."}]
        for model, more in self.thinkers:
            with self.subTest(model=model), client() as c:
                ask = {"model": model, "tools": [WEATHER], **more}
                plain = c.chat.completions.create(messages=messages, **ask).choices[0].message
                with c.chat.completions.stream(messages=messages, **ask) as stream:
                    kinds = {event.type for event in stream}
                    said = stream.get_final_completion().choices[0].message
                self.assertIn("tool_calls.function.arguments.delta", kinds)
                said, plain = said.model_dump(exclude_none=True), plain.model_dump(exclude_none=True)
                self.assertTrue(said["reasoning_content"])
                self.assertEqual(said["reasoning_content"], plain["reasoning_content"])
                blocks = said["thinking_blocks"]
                self.assertEqual([block["index"] for block in blocks], list(range(len(blocks))))
                self.assertEqual("".join(block.get("thinking", "") for block in blocks), said["reasoning_content"])
                signed = [block for block in blocks if block.get("signature") or block.get("data")]
                self.assertEqual(len(signed), len(plain.get("thinking_blocks", [])))
                details = [detail["type"] for detail in said.get("reasoning_details", [])]
                self.assertEqual(details, ["reasoning.encrypted"] * len(details))
                result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "sunny"}
                turn = [*messages, without_parsed(said), result]
                raw = c.chat.completions.with_raw_response.create(messages=turn, **ask)
                self.assertTrue(raw.parse().choices[0].message.content)
                # Nothing of it was left out on the way: all state went back to its vendor.
                self.assertNotIn("thinking", raw.headers.get("x-weir-warnings", ""))
                with c.chat.completions.stream(messages=turn, **ask) as stream:
                    self.assertTrue(stream.get_final_completion().choices[0].message.content)

    def test_several_choices(self):
        ask = {"model": "simulator-gemini/gemini-2.5-flash", "messages": HELLO, "n": 2, "reasoning_effort": "low"}
        with client() as c, c.chat.completions.stream(**ask) as stream:
            choices = stream.get_final_completion().choices
        self.assertEqual(len(choices), 2)
        for choice in choices:
            message = choice.message.model_dump(exclude_none=True)
            self.assertEqual([block["index"] for block in message["thinking_blocks"]], [0])


def without_parsed(message):
    """What the helper adds for its caller alone."""
    calls = [{**call, "function": dict(call["function"])} for call in message["tool_calls"]]
    for call in calls:
        call["function"].pop("parsed_arguments", None)
    return {**message, "tool_calls": calls}


class Errors(unittest.TestCase):
    def refused(self, kind, key=None, **ask):
        ask = {"model": MODEL, "messages": HELLO, **ask}
        with client(key) as c, self.assertRaises(kind) as caught:
            c.chat.completions.create(**ask)
        return caught.exception

    def test_wrong_key(self):
        error = self.refused(openai.AuthenticationError, key="pk_live_nonsense")
        self.assertEqual((error.status_code, error.code), (401, "invalid_api_key"))
        self.assertTrue(error.request_id)

    def test_revoked_key(self):
        status, made = house.call("POST", "/v1/api-keys", {"name": "short-lived"})
        self.assertEqual(status, 201)
        with client(made["secret"]) as c:
            c.chat.completions.create(model=MODEL, messages=HELLO)
            house.call("DELETE", f"/v1/api-keys/{made['api_key']['id']}")

            def refused():
                try:
                    c.chat.completions.create(model=MODEL, messages=HELLO)
                except openai.AuthenticationError as error:
                    return error

            self.assertEqual(until("the revoked key was refused", refused).code, "invalid_api_key")

    def test_unknown_model(self):
        for stream in (False, True):
            error = self.refused(openai.NotFoundError, model="no-such-model", stream=stream)
            self.assertEqual((error.code, error.param), ("model_not_found", "model"))

    def test_wrong_values(self):
        error = self.refused(openai.BadRequestError, messages=[{"role": "wizard", "content": "x"}])
        self.assertEqual(error.param, "messages[0].role")
        error = self.refused(openai.BadRequestError, temperature=9)
        self.assertEqual(error.param, "temperature")
        error = self.refused(openai.BadRequestError, messages="hello")
        self.assertEqual((error.param, error.code), ("messages", "invalid_type"))

    def test_over_rate(self):
        key = house.limited_key(1)
        with client(key) as c:
            c.chat.completions.create(model=MODEL, messages=HELLO)
        error = self.refused(openai.RateLimitError, key=key)
        self.assertEqual((error.status_code, error.code), (429, "rate_limit_exceeded"))
        self.assertGreater(int(error.response.headers["retry-after"]), 0)

    def test_missing_scope(self):
        _, made = house.call("POST", "/v1/api-keys", {"name": "reader", "scopes": ["models:read"]})
        error = self.refused(openai.PermissionDeniedError, key=made["secret"])
        self.assertEqual(error.code, "permission_denied")

    def test_provider_s_errors(self):
        error = self.refused(openai.InternalServerError, extra_body={"x_sim": {"status": 500}})
        self.assertEqual(error.status_code, 500)
        error = self.refused(openai.RateLimitError, extra_body={"x_sim": {"status": 429}})
        self.assertEqual(error.status_code, 429)

    def test_the_client_retries_as_it_does_elsewhere(self):
        before = house.ledger()["failed"]["calls"]
        with client(max_retries=1) as c, self.assertRaises(openai.InternalServerError):
            c.chat.completions.create(model=MODEL, messages=HELLO, extra_body={"x_sim": {"status": 503}})
        self.assertGreaterEqual(house.ledger()["failed"]["calls"] - before, 2)

    def test_a_stream_that_breaks_off(self):
        with client() as c:
            stream = c.chat.completions.create(
                model=MODEL, messages=HELLO, stream=True, extra_body={"x_sim": {"tokens": 50, "token_ms": 5, "cut_after": 5}}
            )
            chunks = []
            with self.assertRaises(openai.APIError) as caught:
                for chunk in stream:
                    chunks.append(chunk)
        self.assertEqual(caught.exception.code, "upstream_failed")
        self.assertTrue(text_of(chunks))


class Hanging(unittest.TestCase):
    def test_cancelled_in_the_middle(self):
        before = house.ledger()["cancelled"]["calls"]
        with client() as c:
            stream = c.chat.completions.create(
                model=MODEL, messages=HELLO, stream=True, extra_body={"x_sim": {"tokens": 5000, "token_ms": 20}}
            )
            for _, _ in zip(range(3), stream):
                pass
            stream.close()
        until("the provider saw the end", lambda: house.ledger()["cancelled"]["calls"] > before)


class Async(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        # unittest's debug mode tells of every slow step.
        asyncio.get_running_loop().set_debug(False)

    async def test_plain_and_streamed(self):
        async with client(kind=openai.AsyncOpenAI) as c:
            plain = await c.chat.completions.create(model=MODEL, messages=HELLO)
            chunks = [chunk async for chunk in await c.chat.completions.create(model=MODEL, messages=HELLO, stream=True)]
        self.assertEqual(text_of(chunks), plain.choices[0].message.content)

    async def test_many_at_once(self):
        async with client(kind=openai.AsyncOpenAI) as c:
            asks = [c.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": str(n)}]) for n in range(32)]
            answers = await asyncio.gather(*asks)
        self.assertEqual(len({answer.id for answer in answers}), 32)

    async def test_cancelled(self):
        before = house.ledger()["cancelled"]["calls"]
        async with client(kind=openai.AsyncOpenAI) as c:
            ask = c.chat.completions.create(
                model=MODEL, messages=HELLO, extra_body={"x_sim": {"first_token_ms": 60_000}}
            )
            task = asyncio.create_task(ask)
            await asyncio.to_thread(until, "the provider was asked", lambda: house.ledger()["running"] > 0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
        cancelled = lambda: house.ledger()["cancelled"]["calls"] > before
        await asyncio.to_thread(until, "the provider saw the end", cancelled)


if __name__ == "__main__":
    unittest.main()

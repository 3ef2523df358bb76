"""OpenAI's client and the Responses API: stored, streamed, in the background, parsed; and embeddings."""

import json
import unittest
import warnings

import openai
import pydantic

from house import House, until
from models import for_each

HELLO = "Say hello."
# Of a provider that speaks OpenAI's chat completions, and of one that speaks Anthropic's Messages.
GPT, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"
THINKER = "sim-think"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}

house = None


def setUpModule():
    global house
    house = House()


def tearDownModule():
    house.stop()


def client(**options):
    options.setdefault("max_retries", 0)
    return openai.OpenAI(base_url=house.dev["gateway"] + "/v1", api_key=house.dev["api_key"], timeout=60, **options)


class Place(pydantic.BaseModel):
    city: str
    rank: int


class Asking(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)


class Responses(Asking):
    @for_each(GPT, CLAUDE)
    def test_plain_and_streamed(self, model):
        plain = self.client.responses.create(model=model, input=HELLO)
        events = list(self.client.responses.create(model=model, input=HELLO, stream=True))
        self.assertEqual((plain.object, plain.status, plain.error), ("response", "completed", None))
        self.assertTrue(plain.output_text)
        self.assertEqual(plain.usage.total_tokens, plain.usage.input_tokens + plain.usage.output_tokens)
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        self.assertEqual("".join(deltas), plain.output_text)
        self.assertEqual([events[0].type, events[-1].type], ["response.created", "response.completed"])
        self.assertEqual(events[-1].response.output_text, plain.output_text)

    def test_the_stream_helper(self):
        with self.client.responses.stream(model=GPT, input=HELLO) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        self.assertIn("response.output_text.delta", kinds)
        self.assertEqual(final.output_text, self.client.responses.create(model=GPT, input=HELLO).output_text)

    @for_each(GPT, CLAUDE)
    def test_parse(self, model):
        parsed = self.client.responses.parse(model=model, input="A place.", text_format=Place)
        self.assertIsInstance(parsed.output_parsed, Place)
        with self.client.responses.stream(model=model, input="A place.", text_format=Place) as stream:
            self.assertEqual(stream.get_final_response().output_parsed, parsed.output_parsed)

    @for_each(GPT, CLAUDE)
    def test_tools_with_all_that_was_said(self, model):
        said = [{"role": "user", "content": 'Ask get_weather({"city": "Oslo"}) please.'}]
        first = self.client.responses.create(model=model, input=said, tools=[WEATHER])
        (call,) = [item for item in first.output if item.type == "function_call"]
        self.assertEqual((call.name, json.loads(call.arguments)), ("get_weather", {"city": "Oslo"}))
        said += first.output
        said.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny at noon"})
        second = self.client.responses.create(model=model, input=said, tools=[WEATHER])
        self.assertIn("sunny at noon", second.output_text)

    def test_parsed_tools(self):
        class get_weather(pydantic.BaseModel):
            city: str

        parsed = self.client.responses.parse(
            model=GPT, input='Ask get_weather({"city": "Oslo"}).', tools=[openai.pydantic_function_tool(get_weather)]
        )
        (call,) = [item for item in parsed.output if item.type == "function_call"]
        self.assertEqual(call.parsed_arguments, get_weather(city="Oslo"))

    @for_each(GPT, CLAUDE)
    def test_the_conversation_is_stored(self, model):
        first = self.client.responses.create(model=model, input='Ask get_weather({"city": "Oslo"}).', tools=[WEATHER])
        (call,) = [item for item in first.output if item.type == "function_call"]
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain at night"}
        second = self.client.responses.create(
            model=model, previous_response_id=first.id, input=[result], tools=[WEATHER]
        )
        self.assertIn("rain at night", second.output_text)
        self.assertEqual(second.previous_response_id, first.id)
        # Each may be gone on from, more than once.
        third = self.client.responses.create(
            model=model, previous_response_id=second.id, input="Thanks.", tools=[WEATHER]
        )
        self.assertGreater(third.usage.input_tokens, second.usage.input_tokens)

    def test_retrieved_listed_and_deleted(self):
        made = self.client.responses.create(model=GPT, input=HELLO, metadata={"of": "python"})
        again = self.client.responses.retrieve(made.id)
        self.assertEqual((again.id, again.output_text, again.metadata), (made.id, made.output_text, {"of": "python"}))
        self.assertEqual(again.usage, made.usage)
        items = list(self.client.responses.input_items.list(made.id))
        self.assertEqual([item.content[0].text for item in items], [HELLO])
        self.client.responses.delete(made.id)
        self.assertRaises(openai.NotFoundError, self.client.responses.retrieve, made.id)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.responses.create(model=GPT, previous_response_id=made.id, input=HELLO)
        self.assertEqual(caught.exception.code, "previous_response_not_found")

    def test_not_stored(self):
        made = self.client.responses.create(model=GPT, input=HELLO, store=False)
        self.assertTrue(made.output_text)
        self.assertRaises(openai.NotFoundError, self.client.responses.retrieve, made.id)

    def test_in_the_background(self):
        made = self.client.responses.create(model=GPT, input=HELLO, background=True)
        self.assertIn(made.status, ("queued", "in_progress", "completed"))
        done = until("it completed", lambda: self.completed(made.id))
        self.assertEqual(done.output_text, self.client.responses.create(model=GPT, input=HELLO).output_text)

    def completed(self, id):
        response = self.client.responses.retrieve(id)
        return response if response.status == "completed" else None

    def test_in_the_background_cancelled(self):
        slow = {"x_sim": {"tokens": 5000, "token_ms": 20}}
        made = self.client.responses.create(model=GPT, input=HELLO, background=True, extra_body=slow)
        self.assertEqual(self.client.responses.cancel(made.id).status, "cancelled")
        self.assertEqual(self.client.responses.retrieve(made.id).status, "cancelled")

    def test_a_background_stream_taken_up_again(self):
        slow = {"x_sim": {"tokens": 60, "token_ms": 10}}
        seen = []
        with self.client.responses.create(model=GPT, input=HELLO, background=True, stream=True, extra_body=slow) as stream:
            for event in stream:
                seen.append(event)
                if len(seen) == 10:
                    break
        id, last = seen[0].response.id, seen[-1].sequence_number
        seen += self.client.responses.retrieve(id, stream=True, starting_after=last)
        self.assertEqual([event.sequence_number for event in seen], list(range(len(seen))))
        self.assertEqual(seen[-1].type, "response.completed")
        deltas = [event.delta for event in seen if event.type == "response.output_text.delta"]
        self.assertEqual("".join(deltas), seen[-1].response.output_text)
        self.assertEqual(self.client.responses.retrieve(id).output_text, seen[-1].response.output_text)

    def test_thoughts_come_back_as_they_went(self):
        ask = {
            "model": f"simulator-responses/{THINKER}",
            "tools": [WEATHER],
            "reasoning": {"effort": "low", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "store": False,
        }
        said = [{"role": "user", "content": "Think, and use get_weather."}]
        first = self.client.responses.create(input=said, **ask)
        thought = first.output[0]
        self.assertEqual(thought.type, "reasoning")
        self.assertTrue(thought.encrypted_content and thought.summary)
        call = first.output[-1]
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny at noon"}
        second = self.client.responses.create(input=[*said, *first.output, result], **ask)
        self.assertIn("sunny at noon", second.output_text)
        forged = thought.model_copy(update={"encrypted_content": thought.encrypted_content[:-8] + "AAAAAAA="})
        # Nor can its provider read what it thought for another account: it is left out, and named, or refused.
        ask["input"] = [*said, forged, *first.output[1:], result]
        raw = self.client.responses.with_raw_response.create(**ask)
        self.assertIn("sunny at noon", raw.parse().output_text)
        self.assertIn("dropped;reasoning", raw.headers["x-weir-warnings"])
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.responses.create(**ask, extra_headers={"x-weir-strict": "true"})
        self.assertEqual(caught.exception.code, "invalid_encrypted_content")

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.responses.create(model="no-such-model", input=HELLO)
        self.assertEqual((caught.exception.code, caught.exception.param), ("model_not_found", "model"))
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.responses.create(model=GPT, input=[{"role": "wizard", "content": "x"}])
        self.assertTrue(caught.exception.param.startswith("input"), caught.exception.param)
        with self.assertRaises(openai.RateLimitError):
            self.client.responses.create(model=GPT, input=HELLO, extra_body={"x_sim": {"status": 429}})
        self.assertRaises(openai.NotFoundError, self.client.responses.retrieve, "resp_" + 48 * "0")

    @for_each(GPT, CLAUDE)
    def test_a_stream_that_breaks_off(self, model):
        cut = {"x_sim": {"tokens": 50, "token_ms": 5, "cut_after": 5}}
        events = []
        try:
            for event in self.client.responses.create(model=model, input=HELLO, stream=True, extra_body=cut):
                events.append(event)
        except openai.APIError:
            self.assertNotEqual(events[-1].type, "response.completed")
            return
        self.assertEqual(events[-1].type, "response.failed")
        self.assertEqual(events[-1].response.status, "failed")
        self.assertTrue(events[-1].response.error.message)

    def test_cancelled_in_the_middle(self):
        before = house.ledger()["cancelled"]["calls"]
        slow = {"x_sim": {"tokens": 5000, "token_ms": 20}}
        stream = self.client.responses.create(model=GPT, input=HELLO, stream=True, extra_body=slow)
        for _, _ in zip(range(6), stream):
            pass
        stream.close()
        until("the provider saw the end", lambda: house.ledger()["cancelled"]["calls"] > before)


class Embeddings(Asking):
    model = "text-embedding-3-small"

    def test_one_and_several(self):
        one = self.client.embeddings.create(model=self.model, input="a text")
        self.assertEqual((one.object, one.model, len(one.data)), ("list", self.model, 1))
        # The client asks for base64 of its own accord, and decodes it.
        vector = one.data[0].embedding
        self.assertEqual(len(vector), 1536)
        self.assertAlmostEqual(sum(x * x for x in vector), 1, places=3)
        several = self.client.embeddings.create(model=self.model, input=["another", "a text"])
        self.assertEqual([item.index for item in several.data], [0, 1])
        self.assertEqual(several.data[1].embedding, vector)
        self.assertNotEqual(several.data[0].embedding, vector)
        self.assertGreater(several.usage.total_tokens, one.usage.total_tokens)

    def test_floats_dimensions_and_tokens(self):
        decoded = self.client.embeddings.create(model=self.model, input="a text", dimensions=256)
        floats = self.client.embeddings.create(model=self.model, input="a text", dimensions=256, encoding_format="float")
        self.assertEqual(len(floats.data[0].embedding), 256)
        for mine, theirs in zip(floats.data[0].embedding, decoded.data[0].embedding):
            self.assertAlmostEqual(mine, theirs, places=6)
        tokens = self.client.embeddings.create(model=self.model, input=[[64, 2201], [64]])
        self.assertEqual(len(tokens.data), 2)
        self.assertEqual(tokens.usage.prompt_tokens, 3)

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError):
            self.client.embeddings.create(model="no-such-model", input="x")
        with self.assertRaises(openai.BadRequestError):
            self.client.embeddings.create(model=self.model, input="")

    def test_a_model_without_a_provider(self):
        make = lambda **more: self.client.embeddings.create(model="weir-hash-1", **more)
        answer = make(input=["How do I reset my password?", "I forgot my password: reset it", "Opening hours"])
        self.assertEqual((answer.model, len(answer.data)), ("weir-hash-1", 3))
        text, near, far = (item.embedding for item in answer.data)
        self.assertEqual(len(text), 384)
        dot = lambda a, b: sum(x * y for x, y in zip(a, b))
        self.assertAlmostEqual(dot(text, text), 1, places=5)
        self.assertGreater(dot(text, near), dot(text, far) + 0.2)
        floats = make(input="Opening hours", encoding_format="float").data[0].embedding
        self.assertEqual([round(x, 6) for x in floats], [round(x, 6) for x in far])
        self.assertEqual(len(make(input="x", dimensions=4096).data[0].embedding), 4096)
        self.assertEqual(make(input=[[15339, 1917]]).data[0].embedding, make(input="hello world").data[0].embedding)
        for wrong in ({"input": ""}, {"input": "x", "dimensions": 4}, {"input": [[4_000_000_000]]}):
            with self.subTest(wrong), self.assertRaises(openai.BadRequestError):
                make(**wrong)
        self.assertEqual(self.client.models.retrieve("weir-hash-1").owned_by, "weir")

    def test_what_is_lost_is_named_or_refused(self):
        asked = {"model": "weir-hash-1", "input": "a text", "user": "me"}
        raw = self.client.embeddings.with_raw_response.create(**asked)
        self.assertEqual(raw.headers["x-weir-warnings"], "dropped;user")
        with self.assertRaises(openai.BadRequestError):
            self.client.embeddings.create(**asked, extra_headers={"x-weir-strict": "true"})


# Of a provider that compacts itself.
NATIVE = "simulator-responses/gpt-4o-mini"


class Compaction(Asking):
    """Long conversations: what was said becomes one item."""

    said = [
        {"role": "user", "content": "Look up the code."},
        {"type": "function_call", "call_id": "call_0", "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_0", "output": "The code is zebra seven."},
    ]
    recall = {"role": "user", "content": "Recall what was said."}

    def setUp(self):
        super().setUp()
        # OpenAI's answer has the user's messages with `input_text`, too, and its client's types warn of it when it is sent.
        quiet = warnings.catch_warnings()
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)
        warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)

    def compacted(self, model, **more):
        raw = self.client.responses.with_raw_response.compact(model=model, **more)
        self.assertNotIn("zebra", raw.http_response.text)
        return raw.parse(), raw.headers.get("x-weir-warnings", "")

    @for_each(NATIVE, GPT, CLAUDE, "simulator-gemini/gemini-2.5-flash")
    def test_a_conversation_goes_on_from_what_was_compacted(self, model):
        made, warnings = self.compacted(model, input=self.said, instructions="Be brief.", prompt_cache_key="k")
        self.assertEqual(warnings, "" if model == NATIVE else "emulated;compact")
        self.assertEqual(made.object, "response.compaction")
        self.assertEqual([item.type for item in made.output], ["message", "compaction"])
        self.assertEqual(made.output[0].content[0].text, "Look up the code.")
        self.assertGreater(made.usage.output_tokens, 0)
        following = self.client.responses.create(model=model, input=[*made.output, self.recall])
        self.assertIn("zebra seven", following.output_text)
        # And from there, kept by us.
        on = self.client.responses.create(model=model, input=[self.recall], previous_response_id=following.id)
        self.assertIn("zebra seven", on.output_text)
        again, _ = self.compacted(model, previous_response_id=on.id)
        self.assertEqual([item.type for item in again.output], ["message"] * 3 + ["compaction"])

    def test_any_model_goes_on_from_our_own(self):
        made, _ = self.compacted(GPT, input=self.said)
        for model in (NATIVE, CLAUDE, "simulator-mistral/mistral-large-latest"):
            with self.subTest(model):
                following = self.client.responses.create(model=model, input=[*made.output, self.recall])
                self.assertIn("zebra seven", following.output_text)

    def test_a_vendors_own_goes_to_its_vendor_alone(self):
        made, _ = self.compacted(NATIVE, input=self.said)
        ask = {"model": CLAUDE, "input": [*made.output, self.recall]}
        raw = self.client.responses.with_raw_response.create(**ask)
        self.assertIn("dropped;input.compaction", raw.headers["x-weir-warnings"])
        self.assertNotIn("zebra", raw.parse().output_text)
        with self.assertRaises(openai.BadRequestError):
            self.client.responses.create(**ask, extra_headers={"x-weir-strict": "true"})

    def test_refusals(self):
        made, _ = self.compacted(GPT, input=self.said)
        item = {"type": "compaction", "encrypted_content": made.output[-1].encrypted_content[:-8] + "AAAAAAAA"}
        for call in (self.client.responses.create, self.client.responses.compact):
            with self.assertRaises(openai.BadRequestError) as refused:
                call(model=GPT, input=[item, self.recall])
            self.assertEqual(refused.exception.param, "input[0].encrypted_content")
        for wrong, param in [({"input": 3}, "input"), ({"previous_response_id": "resp_0"}, "previous_response_id")]:
            with self.assertRaises(openai.BadRequestError) as refused:
                self.client.responses.compact(model=GPT, **wrong)
            self.assertEqual(refused.exception.param, param)
        with self.assertRaises(openai.BadRequestError) as refused:
            self.client.responses.create(model=GPT, input="x", conversation="conv_0")
        self.assertEqual(refused.exception.param, "conversation")
        with self.assertRaises(openai.BadRequestError) as refused:
            self.client.responses.compact(model=GPT, input="x", extra_headers={"x-weir-strict": "true"})
        self.assertIn("emulated;compact", str(refused.exception))


class Parsed(Asking):
    """Chat completions with the client's own schemas."""

    @for_each(GPT, CLAUDE)
    def test_parse(self, model):
        ask = {"model": model, "messages": [{"role": "user", "content": "A place."}], "response_format": Place}
        parsed = self.client.chat.completions.parse(**ask).choices[0].message.parsed
        self.assertIsInstance(parsed, Place)
        with self.client.chat.completions.stream(**ask) as stream:
            final = stream.get_final_completion()
        self.assertEqual(final.choices[0].message.parsed, parsed)

    @for_each(GPT, CLAUDE)
    def test_parsed_tools(self, model):
        class get_weather(pydantic.BaseModel):
            city: str

        parsed = self.client.chat.completions.parse(
            model=model,
            messages=[{"role": "user", "content": "Ask get_weather please."}],
            tools=[openai.pydantic_function_tool(get_weather)],
        )
        (call,) = parsed.choices[0].message.tool_calls
        self.assertIsInstance(call.function.parsed_arguments, get_weather)


if __name__ == "__main__":
    unittest.main()

"""Google's client, unmodified, before a real house."""

import enum
import json
import unittest

import pydantic

from house import House, until

try:
    from google import genai
    from google.genai import errors, types
except ImportError as error:  # Its newest versions want Python 3.11.
    raise unittest.SkipTest("google-genai is not installed (Python 3.11 or newer)") from error

HELLO = "Say hello."
# Of a provider that speaks Gemini's dialect, of one of OpenAI's, and of one of Anthropic's.
GEMINI, GPT, CLAUDE = "gemini-2.5-flash", "gpt-4o-mini", "claude-haiku-4-5"
MODELS = (GEMINI, GPT, CLAUDE)
SIGNING = "simulator-gemini/sim-think"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name="get_weather", description="The weather in a city.", parameters_json_schema=SCHEMA)
    ]
)

house = None


def setUpModule():
    global house
    house = House()


def tearDownModule():
    house.stop()


def client(key=None):
    options = types.HttpOptions(base_url=house.dev["gateway"] + "/genai", timeout=60_000)
    return genai.Client(api_key=key or house.dev["api_key"], http_options=options)


def sim(**wish):
    return types.GenerateContentConfig(http_options=types.HttpOptions(extra_body={"x_sim": wish}))


class Kind(enum.Enum):
    LARGE = "large"
    SMALL = "small"


class Place(pydantic.BaseModel):
    city: str
    kind: Kind
    near: list[str]


class Gemini(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def test_plain_and_streamed(self):
        for model in MODELS:
            with self.subTest(model):
                plain = self.client.models.generate_content(model=model, contents=HELLO)
                chunks = list(self.client.models.generate_content_stream(model=model, contents=HELLO))
                self.assertTrue(plain.text)
                self.assertEqual("".join(chunk.text or "" for chunk in chunks), plain.text)
                self.assertEqual(plain.candidates[0].finish_reason, types.FinishReason.STOP)
                self.assertEqual(chunks[-1].candidates[0].finish_reason, types.FinishReason.STOP)
                usage, last = plain.usage_metadata, chunks[-1].usage_metadata
                self.assertEqual(last.prompt_token_count, usage.prompt_token_count)
                self.assertEqual(last.total_token_count, usage.total_token_count)
                self.assertGreater(usage.prompt_token_count, 0)

    def test_configuration(self):
        config = types.GenerateContentConfig(
            system_instruction="Be brief.", temperature=0.2, top_p=0.9, max_output_tokens=16, stop_sequences=["~"]
        )
        for model in MODELS:
            with self.subTest(model):
                answer = self.client.models.generate_content(model=model, contents=HELLO, config=config)
                self.assertEqual(answer.candidates[0].finish_reason, types.FinishReason.MAX_TOKENS)

    def test_images(self):
        contents = [types.Part.from_bytes(data=PIXEL, mime_type="image/png"), "What is this?"]
        for model in MODELS:
            with self.subTest(model):
                self.assertTrue(self.client.models.generate_content(model=model, contents=contents).text)

    def test_chats(self):
        for model in MODELS:
            with self.subTest(model):
                chat = self.client.chats.create(model=model)
                first = chat.send_message(HELLO)
                second = "".join(chunk.text or "" for chunk in chat.send_message_stream("And again."))
                self.assertTrue(second)
                self.assertNotEqual(first.text, second)
                # A streamed turn is kept as the pieces it came in.
                roles = [content.role for content in chat.get_history()]
                self.assertEqual(roles[:3], ["user", "model", "user"])
                self.assertEqual(set(roles[3:]), {"model"})

    def test_tools(self):
        config = types.GenerateContentConfig(tools=[WEATHER])
        for model in MODELS:
            with self.subTest(model):
                asked = types.Content(role="user", parts=[types.Part(text='Ask get_weather({"city": "Oslo"}).')])
                first = self.client.models.generate_content(model=model, contents=[asked], config=config)
                (call,) = first.function_calls
                self.assertEqual((call.name, call.args), ("get_weather", {"city": "Oslo"}))
                result = types.Part.from_function_response(name=call.name, response={"result": "sunny at noon"})
                result.function_response.id = call.id
                turn = [asked, first.candidates[0].content, types.Content(role="user", parts=[result])]
                second = self.client.models.generate_content(model=model, contents=turn, config=config)
                self.assertIn("sunny at noon", second.text)
                streamed = list(self.client.models.generate_content_stream(model=model, contents=[asked], config=config))
                calls = [call for chunk in streamed for call in chunk.function_calls or ()]
                self.assertEqual([(c.name, c.args) for c in calls], [("get_weather", {"city": "Oslo"})])

    def test_functions_called_by_the_client(self):
        for model in MODELS:
            with self.subTest(model):
                asked = []

                def get_weather(city: str) -> str:
                    """The weather in a city."""
                    asked.append(city)
                    return "sunny at noon"

                answer = self.client.models.generate_content(
                    model=model,
                    contents='Ask get_weather({"city": "Oslo"}).',
                    config=types.GenerateContentConfig(tools=[get_weather]),
                )
                self.assertEqual(asked, ["Oslo"])
                self.assertIn("sunny at noon", answer.text)

    def test_forced_and_forbidden(self):
        for model in MODELS:
            for mode, called in (("ANY", True), ("NONE", False)):
                with self.subTest(model=model, mode=mode):
                    calling = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode=mode))
                    config = types.GenerateContentConfig(tools=[WEATHER], tool_config=calling)
                    answer = self.client.models.generate_content(model=model, contents="About get_weather.", config=config)
                    self.assertEqual(bool(answer.function_calls), called)

    def test_structured_output(self):
        for model in MODELS:
            with self.subTest(model):
                config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Place)
                answer = self.client.models.generate_content(model=model, contents="A place.", config=config)
                self.assertIsInstance(answer.parsed, Place)
                config = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=SCHEMA)
                answer = self.client.models.generate_content(model=model, contents="A place.", config=config)
                self.assertEqual(set(json.loads(answer.text)), {"city"})

    def test_thoughts_and_their_signatures(self):
        config = types.GenerateContentConfig(
            tools=[WEATHER], thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
        )
        asked = types.Content(role="user", parts=[types.Part(text="Think, and use get_weather.")])
        first = self.client.models.generate_content(model=SIGNING, contents=[asked], config=config)
        said = first.candidates[0].content
        self.assertTrue(any(part.thought and part.text for part in said.parts))
        (signature,) = [part.thought_signature for part in said.parts if part.thought_signature]
        self.assertGreater(first.usage_metadata.thoughts_token_count, 0)
        result = types.Part.from_function_response(name="get_weather", response={"result": "sunny at noon"})
        turn = [asked, said, types.Content(role="user", parts=[result])]
        second = self.client.models.generate_content(model=SIGNING, contents=turn, config=config)
        self.assertIn("sunny at noon", second.text)
        for part in said.parts:
            if part.thought_signature:
                part.thought_signature = signature[:-1] + bytes([signature[-1] ^ 1])
        with self.assertRaises(errors.ClientError) as caught:
            self.client.models.generate_content(model=SIGNING, contents=turn, config=config)
        self.assertEqual(caught.exception.code, 400)

    def test_counted_tokens(self):
        for model in MODELS:
            with self.subTest(model):
                counted = self.client.models.count_tokens(model=model, contents=HELLO)
                self.assertGreater(counted.total_tokens, 0)

    def test_models(self):
        for model in MODELS:
            one = self.client.models.get(model=model)
            self.assertEqual(one.name, f"models/{model}")
            self.assertIn("generateContent", one.supported_actions)

    def test_errors(self):
        with self.assertRaises(errors.ClientError) as caught:
            self.client.models.generate_content(model="no-such-model", contents=HELLO)
        self.assertEqual((caught.exception.code, caught.exception.status), (404, "NOT_FOUND"))
        with self.assertRaises(errors.ClientError) as caught, client("nonsense") as other:
            other.models.generate_content(model=GPT, contents=HELLO)
        self.assertIn(caught.exception.code, (400, 401))
        for model in MODELS:
            for status, name in ((429, "RESOURCE_EXHAUSTED"), (400, "INVALID_ARGUMENT"), (500, "INTERNAL")):
                with self.subTest(model=model, status=status), self.assertRaises(errors.APIError) as caught:
                    self.client.models.generate_content(model=model, contents=HELLO, config=sim(status=status))
                self.assertEqual((caught.exception.code, caught.exception.status), (status, name))

    def test_a_stream_that_breaks_off(self):
        for model in MODELS:
            with self.subTest(model):
                chunks = []
                with self.assertRaises(errors.APIError):
                    chunks.extend(
                        self.client.models.generate_content_stream(
                            model=model, contents=HELLO, config=sim(tokens=50, token_ms=5, cut_after=5)
                        )
                    )

    def test_cancelled_in_the_middle(self):
        before = house.ledger()["cancelled"]["calls"]
        stream = self.client.models.generate_content_stream(model=GPT, contents=HELLO, config=sim(tokens=5000, token_ms=20))
        next(stream)
        stream.close()
        until("the provider saw the end", lambda: house.ledger()["cancelled"]["calls"] > before)


class Embeddings(unittest.TestCase):
    def test_several(self):
        with client() as c:
            answer = c.models.embed_content(model="gemini-embedding-001", contents=["a text", "another"])
        self.assertEqual(len(answer.embeddings), 2)
        self.assertTrue(answer.embeddings[0].values)


if __name__ == "__main__":
    unittest.main()

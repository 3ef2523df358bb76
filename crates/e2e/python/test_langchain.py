"""LangChain's clients for OpenAI's and Anthropic's dialects, unmodified, before a real house."""

import json
import unittest
import unittest.mock

import pydantic
import tiktoken
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from house import House
from models import for_each

# Of a provider that speaks OpenAI's dialect, and of one of Anthropic's.
GPT, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"
THINKER = "simulator-anthropic/sim-think"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="

house = None


def setUpModule():
    global house
    house = House()


def tearDownModule():
    house.stop()


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny at noon in {city}"


@tool
def get_time() -> str:
    """The time."""
    return "half past four"


class Place(pydantic.BaseModel):
    """A place."""

    city: str
    rank: int


def openai(model, **options):
    return ChatOpenAI(
        model=model, base_url=house.dev["gateway"] + "/v1", api_key=house.dev["api_key"], max_retries=0, timeout=60, **options
    )


def responses(model, **options):
    return openai(model, use_responses_api=True, **options)


def anthropic(model, **options):
    options.setdefault("max_tokens", 500)
    return ChatAnthropic(
        model=model, base_url=house.dev["gateway"], api_key=house.dev["api_key"], max_retries=0, timeout=60, **options
    )


class Common:
    """What every client does with every provider."""

    def client(self, model, **options):
        raise NotImplementedError

    @for_each(GPT, CLAUDE)
    def test_invoke_and_stream(self, model):
        llm = self.client(model)
        messages = [SystemMessage("Be brief."), HumanMessage("Say hello.")]
        plain = llm.invoke(messages)
        streamed = None
        for chunk in llm.stream(messages):
            streamed = chunk if streamed is None else streamed + chunk
        self.assertTrue(plain.text)
        self.assertIsInstance(streamed, AIMessageChunk)
        self.assertEqual(streamed.text, plain.text)
        self.assertEqual(streamed.usage_metadata["output_tokens"], plain.usage_metadata["output_tokens"])
        self.assertEqual(streamed.usage_metadata["input_tokens"], plain.usage_metadata["input_tokens"])

    @for_each(GPT, CLAUDE)
    def test_batch(self, model):
        llm = self.client(model)
        answers = llm.batch([f"Say {word}." for word in ("one", "two", "three", "four")])
        self.assertEqual(len({answer.text for answer in answers}), 4)

    @for_each(GPT, CLAUDE)
    def test_tools_in_several_steps(self, model):
        tools = {"get_weather": get_weather, "get_time": get_time}
        for streamed in (False, True):
            llm = self.client(model)
            llm = llm.bind_tools(list(tools.values()))
            messages = [HumanMessage('Ask get_weather({"city": "Oslo"}) and get_time please.')]
            said = self.ask(llm, messages, streamed)
            self.assertEqual([call["name"] for call in said.tool_calls], ["get_weather", "get_time"])
            self.assertEqual(said.tool_calls[0]["args"], {"city": "Oslo"})
            messages += [said, *(tools[call["name"]].invoke(call) for call in said.tool_calls)]
            self.assertIsInstance(messages[-1], ToolMessage)
            said = self.ask(llm, messages, streamed)
            self.assertIn("sunny at noon in Oslo", said.text)
            self.assertIn("half past four", said.text)
            messages += [said, HumanMessage("Now get_time again.")]
            said = self.ask(llm, messages, streamed)
            self.assertEqual([call["name"] for call in said.tool_calls], ["get_time"])

    def ask(self, llm, messages, streamed):
        if not streamed:
            return llm.invoke(messages)
        whole = None
        for chunk in llm.stream(messages):
            whole = chunk if whole is None else whole + chunk
        return whole

    @for_each(GPT, CLAUDE)
    def test_forced_tool(self, model):
        llm = self.client(model)
        said = llm.bind_tools([get_weather, get_time], tool_choice="get_time").invoke("Say hello.")
        self.assertEqual([call["name"] for call in said.tool_calls], ["get_time"])

    @for_each(GPT, CLAUDE)
    def test_structured_output(self, model):
        for method in ("json_schema", "function_calling"):
            llm = self.client(model)
            structured = llm.with_structured_output(Place, method=method, include_raw=True)
            answer = structured.invoke("A place.")
            self.assertIsNone(answer["parsing_error"])
            self.assertIsInstance(answer["parsed"], Place)

    @for_each(GPT, CLAUDE)
    def test_images(self, model):
        image = {"type": "image", "base64": PIXEL, "mime_type": "image/png"}
        llm = self.client(model)
        said = llm.invoke([HumanMessage([{"type": "text", "text": "What is this?"}, image])])
        self.assertTrue(said.text)


class OpenAi(Common, unittest.IsolatedAsyncioTestCase):
    def client(self, model, **options):
        return openai(model, stream_usage=True, **options)

    def test_json_mode(self):
        structured = self.client(GPT).with_structured_output(None, method="json_mode")
        self.assertIsInstance(structured.invoke("Answer in JSON."), dict)

    @for_each(GPT, CLAUDE)
    async def test_async(self, model):
        llm = self.client(model)
        plain = await llm.ainvoke("Say hello.")
        streamed = [chunk.text async for chunk in llm.astream("Say hello.")]
        self.assertEqual("".join(streamed), plain.text)

    def test_thinking_through_a_client_that_strips_it(self):
        # ChatOpenAI keeps no reasoning: it comes back without, and must do no harm.
        llm = self.client(THINKER, reasoning_effort="low").bind_tools([get_weather])
        messages = [HumanMessage('Think, and ask get_weather({"city": "Oslo"}).')]
        said = llm.invoke(messages)
        messages += [said, get_weather.invoke(said.tool_calls[0])]
        self.assertIn("sunny at noon in Oslo", llm.invoke(messages).text)


class Responses(Common, unittest.TestCase):
    def client(self, model, **options):
        return responses(model, **options)

    def test_the_stored_conversation(self):
        llm = responses(GPT, use_previous_response_id=True)
        first = llm.invoke("Say hello.")
        second = llm.invoke([HumanMessage("Say hello."), first, HumanMessage("And again.")])
        self.assertGreater(second.usage_metadata["input_tokens"], first.usage_metadata["input_tokens"])


class Anthropic(Common, unittest.TestCase):
    def client(self, model, **options):
        return anthropic(model, **options)

    def test_thinking(self):
        for model in ("claude-haiku-4-5", THINKER):
            with self.subTest(model):
                llm = anthropic(model, max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 2000})
                llm = llm.bind_tools([get_weather])
                messages = [HumanMessage('Think, and ask get_weather({"city": "Oslo"}).')]
                said = llm.invoke(messages)
                self.assertEqual([block["type"] for block in said.content], ["thinking", "tool_use"])
                messages += [said, get_weather.invoke(said.tool_calls[0])]
                self.assertIn("sunny at noon in Oslo", llm.invoke(messages).text)


def _bytes():
    """The tokens of single bytes, which are the first of `cl100k_base`: its whole table would have to be fetched."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = seen + [byte for byte in range(256) if byte not in seen]
    ranks = {bytes([byte]): rank for rank, byte in enumerate(order)}
    return tiktoken.Encoding("bytes", pat_str=".|\\s", mergeable_ranks=ranks, special_tokens={})


BYTES = _bytes()


class Embeddings(unittest.TestCase):
    def test_documents_and_queries(self):
        embeddings = OpenAIEmbeddings(
            model="text-embedding-3-small", base_url=house.dev["gateway"] + "/v1", api_key=house.dev["api_key"],
            # Without: it would fetch a tokenizer's table from the network.
            check_embedding_ctx_length=False,
        )
        documents = embeddings.embed_documents(["one", "two"])
        self.assertEqual([len(vector) for vector in documents], [1536, 1536])
        self.assertEqual(embeddings.embed_query("one"), documents[0])

    def test_tokens_instead_of_texts(self):
        """Without being told otherwise it sends what a tokenizer makes of texts, and several lists of a long one."""
        for model, length in (("weir-hash-1", 384), ("simulator-vertex/text-embedding-005", 768), ("sim-embed", 256)):
            with self.subTest(model), unittest.mock.patch("tiktoken.get_encoding", lambda _: BYTES):
                embeddings = OpenAIEmbeddings(
                    model=model, base_url=house.dev["gateway"] + "/v1", api_key=house.dev["api_key"],
                    embedding_ctx_length=40,
                )
                short, long = embeddings.embed_documents(["a river", "a river in spring " * 10])
                self.assertEqual([len(short), len(long)], [length, length])
                if model != "sim-embed":
                    texts = OpenAIEmbeddings(
                        model=model, base_url=house.dev["gateway"] + "/v1", api_key=house.dev["api_key"],
                        check_embedding_ctx_length=False,
                    )
                    # Those who take no tokens get the text they stand for.
                    self.assertEqual(texts.embed_query("a river"), short)


if __name__ == "__main__":
    unittest.main()

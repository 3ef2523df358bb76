"""OpenAI's Agents SDK, unmodified, before a real house: over Responses and over chat completions."""

import logging
import unittest

import openai
import pydantic
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesCompactionSession,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from agents.items import HandoffOutputItem, ToolCallItem, ToolCallOutputItem

from house import House
from models import for_each

# Of a provider that speaks OpenAI's dialect, and of one of Anthropic's.
GPT, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"

house = None


def setUpModule():
    global house
    house = House()
    # Its traces would go to OpenAI.
    set_tracing_disabled(True)
    # Of errors the tests look at.
    logging.getLogger("openai.agents").setLevel(logging.CRITICAL)


def tearDownModule():
    house.stop()


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny at noon in {city}"


@function_tool
def get_time() -> str:
    """The time."""
    return "half past four"


class Place(pydantic.BaseModel):
    city: str
    rank: int


class Common:
    model = None

    async def asyncSetUp(self):
        self.client = openai.AsyncOpenAI(
            base_url=house.dev["gateway"] + "/v1", api_key=house.dev["api_key"], timeout=60, max_retries=0
        )
        self.addAsyncCleanup(self.client.close)

    def of(self, model):
        return self.model(model=model, openai_client=self.client)

    @for_each(GPT, CLAUDE)
    async def test_tools(self, model):
        agent = Agent(name="helper", instructions="Be brief.", model=self.of(model), tools=[get_weather, get_time])
        result = await Runner.run(agent, 'Ask get_weather({"city": "Oslo"}) and get_time.')
        self.assertIn("sunny at noon in Oslo", result.final_output)
        self.assertIn("half past four", result.final_output)
        self.assertEqual([type(item) for item in result.new_items[:4]], [ToolCallItem] * 2 + [ToolCallOutputItem] * 2)
        self.assertEqual(len(result.raw_responses), 2)
        self.assertGreater(result.context_wrapper.usage.total_tokens, 0)

    @for_each(GPT, CLAUDE)
    async def test_the_next_turn(self, model):
        agent = Agent(name="helper", model=self.of(model), tools=[get_weather, get_time])
        first = await Runner.run(agent, 'Ask get_weather({"city": "Oslo"}).')
        turn = [*first.to_input_list(), {"role": "user", "content": "Now get_time."}]
        second = await Runner.run(agent, turn)
        self.assertIn("half past four", second.final_output)

    @for_each(GPT, CLAUDE)
    async def test_streamed(self, model):
        agent = Agent(name="helper", model=self.of(model), tools=[get_weather])
        result = Runner.run_streamed(agent, 'Ask get_weather({"city": "Oslo"}).')
        text, kinds = "", []
        async for event in result.stream_events():
            if event.type == "raw_response_event":
                if event.data.type == "response.output_text.delta":
                    text += event.data.delta
                elif event.data.type == "response.completed":
                    kinds.append("completed")
            elif event.type == "run_item_stream_event":
                kinds.append(event.name)
        self.assertEqual(text, result.final_output)
        self.assertIn("sunny at noon in Oslo", text)
        wanted = ["tool_called", "tool_output", "message_output_created"]
        self.assertEqual([kind for kind in kinds if kind != "completed"], wanted)
        self.assertEqual(kinds.count("completed"), 2)

    @for_each(GPT, CLAUDE)
    async def test_handoff(self, model):
        forecaster = Agent(name="forecaster", instructions="You know the weather.", model=self.of(model), tools=[get_weather])
        desk = Agent(name="desk", instructions="You hand over.", model=self.of(model), handoffs=[forecaster])
        result = await Runner.run(desk, "Please transfer_to_forecaster.")
        self.assertEqual(result.last_agent.name, "forecaster")
        self.assertTrue([item for item in result.new_items if isinstance(item, HandoffOutputItem)])
        self.assertTrue(result.final_output)

    @for_each(GPT, CLAUDE)
    async def test_structured_output(self, model):
        agent = Agent(name="helper", model=self.of(model), output_type=Place)
        result = await Runner.run(agent, "A place.")
        self.assertIsInstance(result.final_output, Place)

    @for_each(GPT, CLAUDE)
    async def test_settings(self, model):
        settings = ModelSettings(tool_choice="required", parallel_tool_calls=False, temperature=0.1, max_tokens=300)
        agent = Agent(name="helper", model=self.of(model), tools=[get_time], model_settings=settings)
        result = await Runner.run(agent, "Say hello.")
        self.assertIn("half past four", result.final_output)

    async def test_errors(self):
        agent = Agent(name="helper", model=self.of("no-such-model"))
        with self.assertRaises(openai.NotFoundError):
            await Runner.run(agent, "Say hello.")


class ChatCompletions(Common, unittest.IsolatedAsyncioTestCase):
    model = OpenAIChatCompletionsModel


class Responses(Common, unittest.IsolatedAsyncioTestCase):
    model = OpenAIResponsesModel

    @for_each(GPT, CLAUDE)
    async def test_with_the_previous_response(self, model):
        agent = Agent(name="helper", model=self.of(model), tools=[get_weather])
        first = await Runner.run(agent, "Say hello.")
        second = await Runner.run(agent, "Ask get_weather.", previous_response_id=first.last_response_id)
        self.assertIn("sunny at noon", second.final_output)

    # One that compacts itself, and one for which a summary is made.
    @for_each("simulator-responses/gpt-4o-mini", GPT)
    async def test_a_session_that_is_compacted(self, model):
        kept = SQLiteSession(model)
        session = OpenAIResponsesCompactionSession(
            model, kept, client=self.client, model=model, should_trigger_compaction=lambda _: False
        )
        agent = Agent(name="helper", model=self.of(model), tools=[get_weather])
        await Runner.run(agent, 'Ask get_weather({"city": "Oslo"}).', session=session)
        await session.run_compaction({"force": True})
        items = await session.get_items()
        self.assertEqual([item["type"] for item in items], ["message", "compaction"])
        self.assertNotIn("sunny", str(items))
        again = await Runner.run(agent, "Recall what was said.", session=session)
        self.assertIn("sunny at noon in Oslo", again.final_output)
        kept.close()


if __name__ == "__main__":
    unittest.main()

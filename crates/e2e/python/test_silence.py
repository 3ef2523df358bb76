"""Official clients at streams that are silent for longer than keep-alives are apart."""

import unittest

import anthropic
import openai

from house import House

try:
    from google import genai
    from google.genai import types
except ImportError:  # Its newest versions want Python 3.11.
    genai = None

# Of OpenAI's, Anthropic's and Google's own dialects: each client once at home, and once translated.
MODELS = ("gpt-4o-mini", "claude-haiku-4-5", "gemini-2.5-flash")
SLOW = 'Say hello. [x_sim {"tokens": 12, "pause_ms": 500, "pause_after": 5}]'

house = None


def setUpModule():
    global house
    house = House()


def tearDownModule():
    house.stop()


class Silence(unittest.TestCase):
    def setUp(self):
        self.openai = openai.OpenAI(base_url=house.dev["gateway"] + "/v1", api_key=house.dev["api_key"], max_retries=0)
        self.addCleanup(self.openai.close)

    def test_chat_completions(self):
        for model in MODELS:
            with self.subTest(model):
                messages = [{"role": "user", "content": SLOW}]
                chunks = list(self.openai.chat.completions.create(model=model, messages=messages, stream=True))
                self.assertTrue(chunks[-1].choices[0].finish_reason)

    def test_responses(self):
        for model in MODELS:
            for background in (False, True):
                with self.subTest(model, background=background):
                    ask = {"model": model, "input": SLOW, "stream": True, "background": background}
                    events = list(self.openai.responses.create(**ask))
                    self.assertEqual(events[-1].type, "response.completed")
                    numbers = [event.sequence_number for event in events]
                    self.assertEqual(numbers, list(range(len(events))))
                    if background:
                        id = events[0].response.id
                        again = list(self.openai.responses.retrieve(id, stream=True, starting_after=2))
                        self.assertEqual([event.sequence_number for event in again], numbers[3:])

    def test_messages(self):
        client = anthropic.Anthropic(base_url=house.dev["gateway"], api_key=house.dev["api_key"], max_retries=0)
        self.addCleanup(client.close)
        for model in MODELS:
            with self.subTest(model):
                messages = [{"role": "user", "content": SLOW}]
                with client.messages.stream(model=model, max_tokens=4000, messages=messages) as stream:
                    self.assertTrue("".join(stream.text_stream))
                    self.assertEqual(stream.get_final_message().stop_reason, "end_turn")

    @unittest.skipUnless(genai, "google-genai is not installed (Python 3.11 or newer)")
    def test_generate_content(self):
        options = types.HttpOptions(base_url=house.dev["gateway"] + "/genai")
        client = genai.Client(api_key=house.dev["api_key"], http_options=options)
        for model in MODELS:
            with self.subTest(model):
                chunks = list(client.models.generate_content_stream(model=model, contents=SLOW))
                self.assertEqual(chunks[-1].candidates[0].finish_reason, types.FinishReason.STOP)


if __name__ == "__main__":
    unittest.main()

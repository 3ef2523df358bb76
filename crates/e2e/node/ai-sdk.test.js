// The AI SDK, unmodified, with its providers for OpenAI-compatible endpoints and for Anthropic: crates/e2e/node/run.sh

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, embedMany, generateObject, generateText } from "ai";
import { stepCountIs, streamObject, streamText, tool } from "ai";
import * as z from "zod";
import { CLAUDE, MODEL, PIXEL, dev, forEach, ledger, until } from "./house.js";

const compatible = createOpenAICompatible({
  name: "weir",
  baseURL: `${dev.gateway}/v1`,
  apiKey: dev.api_key,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const anthropic = createAnthropic({ baseURL: `${dev.gateway}/v1`, apiKey: dev.api_key });
const HELLO = { prompt: "Say hello.", maxRetries: 0 };
const PLACE = z.object({ city: z.string(), rank: z.number().int(), near: z.array(z.string()) });
const tools = (asked) => ({
  get_weather: tool({
    description: "The weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => (asked.push(city), `sunny at noon in ${city}`),
  }),
  get_time: tool({
    description: "The time.",
    inputSchema: z.object({}),
    execute: async () => (asked.push("time"), "half past four"),
  }),
});
const STEPS = { prompt: 'Ask get_weather({"city": "Oslo"}) and get_time please.', stopWhen: stepCountIs(5), maxRetries: 0 };

for (const [name, provider] of Object.entries({ compatible, anthropic })) {
  describe(name, () => {
    const both = forEach([MODEL, CLAUDE]);
    // Anthropic's provider asks for as much as the models it knows can answer.
    const bound = name === "anthropic" ? { maxOutputTokens: 500 } : {};

    both("generateText and streamText", async (id) => {
      const ask = { ...HELLO, ...bound, model: provider(id), system: "Be brief." };
      const plain = await generateText(ask);
      assert.ok(plain.text);
      assert.equal(plain.finishReason, "stop");
      const stream = streamText(ask);
      let text = "";
      for await (const piece of stream.textStream) text += piece;
      assert.equal(text, plain.text);
      assert.equal(await stream.finishReason, "stop");
      const usage = await stream.usage;
      assert.deepEqual([usage.inputTokens, usage.outputTokens], [plain.usage.inputTokens, plain.usage.outputTokens]);
      assert.ok(usage.totalTokens > 0);
    });

    both("the parts of a stream in their order", async (id) => {
      const kinds = [];
      for await (const part of streamText({ ...HELLO, ...bound, model: provider(id) }).fullStream) kinds.push(part.type);
      const order = ["start", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"];
      assert.deepEqual([...new Set(kinds)], order);
    });

    both("tools in several steps, whole", async (id) => {
      const asked = [];
      const result = await generateText({ ...STEPS, ...bound, model: provider(id), tools: tools(asked) });
      assert.deepEqual(asked.sort(), ["Oslo", "time"]);
      assert.equal(result.steps.length, 2);
      assert.deepEqual(result.steps.map((step) => step.finishReason), ["tool-calls", "stop"]);
      assert.match(result.text, /sunny at noon in Oslo/);
      assert.match(result.text, /half past four/);
    });

    both("tools in several steps, streamed", async (id) => {
      const asked = [];
      const stream = streamText({ ...STEPS, ...bound, model: provider(id), tools: tools(asked) });
      const calls = [];
      for await (const part of stream.fullStream) {
        assert.notEqual(part.type, "error", String(part.error));
        if (part.type === "tool-call") calls.push([part.toolName, part.input]);
      }
      assert.deepEqual(calls, [["get_weather", { city: "Oslo" }], ["get_time", {}]]);
      assert.deepEqual(asked.sort(), ["Oslo", "time"]);
      assert.equal((await stream.steps).length, 2);
      assert.match(await stream.text, /sunny at noon in Oslo/);
    });

    both("a tool that must be called", async (id) => {
      const asked = [];
      const ask = { ...HELLO, ...bound, model: provider(id), tools: tools(asked) };
      const forced = await generateText({ ...ask, toolChoice: { type: "tool", toolName: "get_time" } });
      assert.deepEqual(forced.toolCalls.map((call) => call.toolName), ["get_time"]);
      const none = await generateText({ ...ask, prompt: "About get_time.", toolChoice: "none" });
      assert.deepEqual(none.toolCalls, []);
    });

    both("objects, whole and streamed", async (id) => {
      const ask = { ...HELLO, ...bound, model: provider(id), prompt: "A place." };
      const { object } = await generateObject({ ...ask, schema: PLACE });
      assert.ok(PLACE.safeParse(object).success);
      const stream = streamObject({ ...ask, schema: PLACE });
      let last;
      for await (const partial of stream.partialObjectStream) last = partial;
      assert.deepEqual(await stream.object, object);
      assert.deepEqual(last, object);
      const { output } = await generateText({ ...ask, output: Output.object({ schema: PLACE }) });
      assert.deepEqual(output, object);
    });

    both("one of several words", async (id) => {
      const ask = { ...HELLO, ...bound, model: provider(id), output: "enum", enum: ["sunny", "rainy"] };
      const { object } = await generateObject(ask);
      assert.ok(["sunny", "rainy"].includes(object));
    });

    both("images", async (id) => {
      const content = [{ type: "text", text: "What is this?" }, { type: "image", image: PIXEL, mediaType: "image/png" }];
      const messages = [{ role: "user", content }];
      const result = await generateText({ ...bound, maxRetries: 0, model: provider(id), messages });
      assert.ok(result.text);
    });

    both("errors have their status", async (id) => {
      const model = provider(id);
      const headers = { "x-request-id": "ai-sdk-1" };
      await assert.rejects(
        generateText({ ...HELLO, ...bound, model: provider("no-such-model"), headers }),
        (error) => APICallError.isInstance(error) && error.statusCode === 404,
      );
      const prompt = 'Say hello. [x_sim {"status": 429}]';
      await assert.rejects(
        generateText({ ...HELLO, ...bound, model, prompt }),
        (error) => APICallError.isInstance(error) && error.statusCode === 429 && error.isRetryable,
      );
    });

    both("a stream that breaks off says so", async (id) => {
      const prompt = 'Say hello. [x_sim {"tokens": 50, "token_ms": 5, "cut_after": 5}]';
      const errors = [];
      const onError = ({ error }) => errors.push(error);
      const stream = streamText({ ...HELLO, ...bound, model: provider(id), prompt, onError });
      const kinds = [];
      for await (const part of stream.fullStream) kinds.push(part.type);
      assert.ok(errors.length > 0 && kinds.includes("error"), kinds.join());
    });

    both("an abort ends the provider's call", async (id) => {
      const before = (await ledger()).cancelled.calls;
      const stop = new AbortController();
      const prompt = 'Say hello. [x_sim {"tokens": 400, "token_ms": 50}]';
      const stream = streamText({ ...HELLO, ...bound, model: provider(id), prompt, abortSignal: stop.signal });
      for await (const _ of stream.textStream) stop.abort();
      await until("the provider saw the end", async () => (await ledger()).cancelled.calls > before);
    });
  });
}

describe("thinking", () => {
  forEach(["simulator-anthropic/sim-think"])("in several steps, whatever the client keeps", async (id) => {
    const models = {
      anthropic: [anthropic(id), { anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } } }],
      compatible: [compatible(id), { weir: { reasoningEffort: "low" } }],
    };
    for (const [name, [model, providerOptions]] of Object.entries(models)) {
      const asked = [];
      const ask = { ...STEPS, model, providerOptions, maxOutputTokens: 4000, tools: tools(asked) };
      const result = await generateText(ask);
      assert.equal(result.steps.length, 2, name);
      assert.ok(result.steps[0].reasoningText, name);
      assert.match(result.text, /sunny at noon in Oslo/, name);
      const stream = streamText({ ...ask, tools: tools([]) });
      assert.match(await stream.text, /sunny at noon in Oslo/, name);
      assert.ok((await stream.steps)[0].reasoningText, name);
    }
  });
});

describe("embeddings", () => {
  test("several at once", async () => {
    const model = compatible.embeddingModel("text-embedding-3-small");
    const { embeddings, usage } = await embedMany({ model, values: ["one", "two"], maxRetries: 0 });
    assert.deepEqual(embeddings.map((vector) => vector.length), [1536, 1536]);
    assert.ok(usage.tokens > 0);
  });
});

// OpenAI's official Node SDK: Responses, embeddings, and schemas written with zod: crates/e2e/node/run.sh

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import * as z from "zod";
import { CLAUDE, MODEL, client, collect, forEach, until } from "./house.js";

const PLACE = z.object({ city: z.string(), rank: z.number().int(), near: z.array(z.string()) });
const WEATHER = z.object({ city: z.string() });
const input = "Say hello.";
const both = forEach([MODEL, CLAUDE]);

describe("responses", () => {
  both("plain and streamed", async (model) => {
    const plain = await client().responses.create({ model, input });
    assert.deepEqual([plain.object, plain.status], ["response", "completed"]);
    const events = await collect(await client().responses.create({ model, input, stream: true }));
    const deltas = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
    assert.equal(deltas.join(""), plain.output_text);
    assert.equal(events.at(-1).type, "response.completed");
    assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, n) => n));
    const final = await client().responses.stream({ model, input }).finalResponse();
    assert.equal(final.output_text, plain.output_text);
  });

  both("parsed", async (model) => {
    const text = { format: zodTextFormat(PLACE, "place") };
    const parsed = await client().responses.parse({ model, input: "A place.", text });
    assert.ok(PLACE.safeParse(parsed.output_parsed).success);
    const final = await client().responses.stream({ model, input: "A place.", text }).finalResponse();
    assert.deepEqual(final.output_parsed, parsed.output_parsed);
  });

  both("tools, and what was said kept by us", async (model) => {
    const tools = [zodResponsesFunction({ name: "get_weather", parameters: WEATHER })];
    const first = await client().responses.parse({ model, input: 'Ask get_weather({"city": "Oslo"}).', tools });
    const [call] = first.output.filter((item) => item.type === "function_call");
    assert.deepEqual(call.parsed_arguments, { city: "Oslo" });
    const result = { type: "function_call_output", call_id: call.call_id, output: "sunny at noon" };
    const second = await client().responses.create({ model, previous_response_id: first.id, input: [result], tools });
    assert.match(second.output_text, /sunny at noon/);
    const items = await collect(client().responses.inputItems.list(second.id));
    assert.ok(items.length >= 1);
  });

  test("retrieved, deleted, and never stored", async () => {
    const made = await client().responses.create({ model: MODEL, input });
    const again = await client().responses.retrieve(made.id);
    assert.equal(again.output_text, made.output_text);
    await client().responses.delete(made.id);
    await assert.rejects(client().responses.retrieve(made.id), OpenAI.NotFoundError);
    const passing = await client().responses.create({ model: MODEL, input, store: false });
    await assert.rejects(client().responses.retrieve(passing.id), OpenAI.NotFoundError);
  });

  test("in the background, and cancelled there", async () => {
    const made = await client().responses.create({ model: MODEL, input, background: true });
    const completed = async () => {
      const now = await client().responses.retrieve(made.id);
      return now.status === "completed" && now;
    };
    assert.ok((await until("it completed", completed)).output_text);
    const slow = { model: MODEL, input, background: true, x_sim: { tokens: 5000, token_ms: 20 } };
    const long = await client().responses.create(slow);
    assert.equal((await client().responses.cancel(long.id)).status, "cancelled");
  });

  test("a background stream taken up again", async () => {
    const slow = { model: MODEL, input, background: true, stream: true, x_sim: { tokens: 60, token_ms: 10 } };
    const seen = [];
    for await (const event of await client().responses.create(slow)) {
      seen.push(event);
      if (seen.length === 10) break;
    }
    const query = { stream: true, starting_after: seen.at(-1).sequence_number };
    seen.push(...(await collect(await client().responses.retrieve(seen[0].response.id, query))));
    assert.deepEqual(seen.map((event) => event.sequence_number), seen.map((_, n) => n));
    assert.equal(seen.at(-1).type, "response.completed");
  });

  test("errors", async () => {
    await assert.rejects(client().responses.create({ model: "no-such-model", input }), OpenAI.NotFoundError);
    const busy = { model: MODEL, input, x_sim: { status: 429 } };
    await assert.rejects(client().responses.create(busy), OpenAI.RateLimitError);
    await assert.rejects(client().responses.retrieve("resp_" + "0".repeat(48)), OpenAI.NotFoundError);
  });
});

describe("compaction", () => {
  const native = "simulator-responses/gpt-4o-mini";
  const said = [
    { role: "user", content: "Look up the code." },
    { type: "function_call", call_id: "call_0", name: "look_up", arguments: "{}" },
    { type: "function_call_output", call_id: "call_0", output: "The code is zebra seven." },
  ];

  forEach([native, MODEL, CLAUDE])("a conversation goes on from it", async (model) => {
    const { data, response } = await client().responses.compact({ model, input: said }).withResponse();
    assert.equal(response.headers.get("x-weir-warnings"), model === native ? null : "emulated;compact");
    assert.equal(data.object, "response.compaction");
    assert.deepEqual(data.output.map((item) => item.type), ["message", "compaction"]);
    assert.doesNotMatch(JSON.stringify(data), /zebra/);
    const input = [...data.output, { role: "user", content: "Recall what was said." }];
    const following = await client().responses.create({ model, input });
    assert.match(following.output_text, /zebra seven/);
  });
});

describe("chat, parsed", () => {
  both("answers", async (model) => {
    const messages = [{ role: "user", content: "A place." }];
    const ask = { model, messages, response_format: zodResponseFormat(PLACE, "place") };
    const { parsed } = (await client().chat.completions.parse(ask)).choices[0].message;
    assert.ok(PLACE.safeParse(parsed).success);
    const final = await client().chat.completions.stream(ask).finalChatCompletion();
    assert.deepEqual(final.choices[0].message.parsed, parsed);
  });

  both("arguments", async (model) => {
    const tools = [zodFunction({ name: "get_weather", parameters: WEATHER })];
    const messages = [{ role: "user", content: 'Ask get_weather({"city": "Oslo"}).' }];
    const answer = await client().chat.completions.parse({ model, messages, tools });
    const [call] = answer.choices[0].message.tool_calls;
    assert.deepEqual(call.function.parsed_arguments, { city: "Oslo" });
  });
});

describe("embeddings", () => {
  const model = "text-embedding-3-small";

  test("asked for as base64 and as numbers", async () => {
    // The client asks for base64 of its own accord, and decodes it.
    const several = await client().embeddings.create({ model, input: ["one", "two"], dimensions: 256 });
    assert.deepEqual(several.data.map((item) => item.embedding.length), [256, 256]);
    const floats = await client().embeddings.create({ model, input: "one", dimensions: 256, encoding_format: "float" });
    floats.data[0].embedding.forEach((x, n) => assert.ok(Math.abs(x - several.data[0].embedding[n]) < 1e-6));
  });

  test("a model without a provider", async () => {
    const own = { model: "weir-hash-1", input: ["a river in spring", "rivers in the spring", "tax forms"] };
    const answer = await client().embeddings.create(own);
    const [text, near, far] = answer.data.map((item) => item.embedding);
    const dot = (a, b) => a.reduce((sum, x, n) => sum + x * b[n], 0);
    assert.equal(text.length, 384);
    assert.ok(Math.abs(dot(text, text) - 1) < 1e-5);
    assert.ok(dot(text, near) > dot(text, far) + 0.3);
    const floats = await client().embeddings.create({ ...own, input: "tax forms", encoding_format: "float" });
    floats.data[0].embedding.forEach((x, n) => assert.ok(Math.abs(x - far[n]) < 1e-6));
    await assert.rejects(client().embeddings.create({ ...own, dimensions: 4 }), OpenAI.BadRequestError);
  });
});

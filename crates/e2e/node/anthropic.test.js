// Anthropic's official Node SDK, unmodified, before a real house: crates/e2e/node/run.sh

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import * as z from "zod";
import { CLAUDE, HELLO, MODEL, PIXEL, collect, dev, forEach, ledger, limitedKey, until } from "./house.js";

const client = ({ base = "", ...options } = {}) =>
  new Anthropic({ apiKey: dev.api_key, baseURL: dev.gateway + base, maxRetries: 0, timeout: 60_000, ...options });
const ask = (more = {}) => ({ model: CLAUDE, max_tokens: 300, messages: HELLO, ...more });
const textOf = (message) => message.content.map((block) => block.text ?? "").join("");
const WEATHER = {
  name: "get_weather",
  description: "The weather in a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const both = forEach([CLAUDE, MODEL]);

describe("messages", () => {
  both("plain, streamed and counted", async (model) => {
    const plain = await client().messages.create(ask({ model }));
    assert.deepEqual([plain.type, plain.role, plain.stop_reason], ["message", "assistant", "end_turn"]);
    const stream = client().messages.stream(ask({ model }));
    let text = "";
    stream.on("text", (piece) => (text += piece));
    const final = await stream.finalMessage();
    assert.equal(text, textOf(plain));
    assert.equal(textOf(final), text);
    assert.deepEqual(final.usage.output_tokens, plain.usage.output_tokens);
    const counted = await client().messages.countTokens({ model, messages: HELLO });
    assert.ok(counted.input_tokens > 0);
  });

  both("events in their order", async (model) => {
    const events = await collect(await client().messages.create(ask({ model, stream: true })));
    const kinds = events.map((event) => event.type);
    assert.deepEqual(kinds.slice(0, 2), ["message_start", "content_block_start"]);
    assert.deepEqual(kinds.slice(-3), ["content_block_stop", "message_delta", "message_stop"]);
  });

  both("tools in two turns", async (model) => {
    const messages = [{ role: "user", content: 'Ask get_weather({"city": "Oslo"}) please.' }];
    const said = await client().messages.create(ask({ model, messages, tools: [WEATHER] }));
    assert.equal(said.stop_reason, "tool_use");
    const [call] = said.content.filter((block) => block.type === "tool_use");
    assert.deepEqual([call.name, call.input], ["get_weather", { city: "Oslo" }]);
    const streamed = await client().messages.stream(ask({ model, messages, tools: [WEATHER] })).finalMessage();
    assert.deepEqual(streamed.content.at(-1).input, call.input);
    const result = { type: "tool_result", tool_use_id: call.id, content: "sunny at noon" };
    messages.push({ role: "assistant", content: said.content }, { role: "user", content: [result] });
    const after = await client().messages.create(ask({ model, messages, tools: [WEATHER] }));
    assert.match(textOf(after), /sunny at noon/);
  });

  both("the tool runner calls our function and goes on", async (model) => {
    const asked = [];
    const tool = betaZodTool({
      name: "get_weather",
      description: "The weather in a city.",
      inputSchema: z.object({ city: z.string() }),
      run: ({ city }) => (asked.push(city), "sunny at noon"),
    });
    const messages = [{ role: "user", content: 'Ask get_weather({"city": "Oslo"}) please.' }];
    const final = await client().beta.messages.toolRunner(ask({ model, messages, tools: [tool] })).runUntilDone();
    assert.deepEqual(asked, ["Oslo"]);
    assert.match(textOf(final), /sunny at noon/);
  });

  both("structured output", async (model) => {
    const format = zodOutputFormat(z.object({ city: z.string(), rank: z.number().int() }));
    const message = await client().messages.parse(ask({ model, output_config: { format } }));
    assert.equal(typeof message.parsed_output.city, "string");
    assert.ok(Number.isInteger(message.parsed_output.rank));
  });

  both("images", async (model) => {
    const image = { type: "image", source: { type: "base64", media_type: "image/png", data: PIXEL } };
    const content = [image, { type: "text", text: "What is this?" }];
    const message = await client().messages.create(ask({ model, messages: [{ role: "user", content }] }));
    assert.ok(textOf(message));
  });

  test("thoughts come back as they went", async () => {
    const thinking = { type: "enabled", budget_tokens: 2000 };
    const messages = [{ role: "user", content: "Think, and use get_weather." }];
    const more = { max_tokens: 4000, thinking, tools: [WEATHER] };
    const said = await client().messages.stream(ask({ messages, ...more })).finalMessage();
    assert.deepEqual(said.content.map((block) => block.type), ["thinking", "tool_use"]);
    const result = { type: "tool_result", tool_use_id: said.content[1].id, content: "sunny" };
    const turn = (content) => [...messages, { role: "assistant", content }, { role: "user", content: [result] }];
    assert.ok(textOf(await client().messages.create(ask({ messages: turn(said.content), ...more }))));
    const forged = [{ ...said.content[0], thinking: said.content[0].thinking + "!" }, said.content[1]];
    await assert.rejects(client().messages.create(ask({ messages: turn(forged), ...more })), Anthropic.BadRequestError);
  });

  test("the drop-in base URL", async () => {
    const message = await client({ base: "/anthropic" }).messages.create(ask());
    assert.ok(textOf(message));
    const models = await collect(client({ base: "/anthropic" }).models.list());
    assert.ok(models.some((model) => model.id === CLAUDE));
  });
});

describe("errors", () => {
  const refused = async (kind, more, options) => {
    const error = await client(options).messages.create(ask(more)).then(
      () => assert.fail("was answered"),
      (error) => error,
    );
    assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
    return error;
  };

  test("each has its class", async () => {
    const wrong = await refused(Anthropic.AuthenticationError, {}, { apiKey: "pk_live_nonsense" });
    assert.ok(wrong.requestID);
    await refused(Anthropic.NotFoundError, { model: "no-such-model" });
    await refused(Anthropic.BadRequestError, { max_tokens: 0 });
    await refused(Anthropic.RateLimitError, { x_sim: { status: 429 } });
    const busy = await refused(Anthropic.InternalServerError, { x_sim: { status: 529 } });
    assert.deepEqual([busy.status, busy.type], [529, "overloaded_error"]);
    const apiKey = await limitedKey(1);
    await client({ apiKey }).messages.create(ask());
    await refused(Anthropic.RateLimitError, {}, { apiKey });
  });

  both("a stream that breaks off says so", async (model) => {
    const stream = client().messages.stream(ask({ model, x_sim: { tokens: 50, token_ms: 5, cut_after: 5 } }));
    await assert.rejects(stream.finalMessage(), Anthropic.APIError);
  });
});

test("a break out of for await ends the provider's call", async () => {
  const before = (await ledger()).cancelled.calls;
  const slow = ask({ max_tokens: 9000, stream: true, x_sim: { tokens: 5000, token_ms: 20 } });
  let seen = 0;
  for await (const _ of await client().messages.create(slow)) if (++seen === 3) break;
  await until("the provider saw the end", async () => (await ledger()).cancelled.calls > before);
});

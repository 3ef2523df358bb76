// OpenAI's official Node SDK, unmodified, before a real house: crates/e2e/node/run.sh

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import OpenAI from "openai";
import { HELLO, MODEL, call, client, collect, ledger, limitedKey, textOf, until } from "./house.js";

const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

const ask = (more = {}) => ({ model: MODEL, messages: HELLO, ...more });

describe("chat", () => {
  test("plain", async () => {
    const answer = await client().chat.completions.create(ask());
    assert.equal(answer.object, "chat.completion");
    assert.ok(answer.choices[0].message.content);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  });

  test("streamed, with for await", async () => {
    const plain = await client().chat.completions.create(ask());
    const chunks = await collect(await client().chat.completions.create(ask({ stream: true })));
    assert.equal(textOf(chunks), plain.choices[0].message.content);
    assert.ok(chunks.length > 2);
    assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
    assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
    assert.ok(chunks.every((chunk) => chunk.usage == null));
  });

  test("the usage chunk, when asked for", async () => {
    const plain = await client().chat.completions.create(ask());
    const options = { stream: true, stream_options: { include_usage: true } };
    const chunks = await collect(await client().chat.completions.create(ask(options)));
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.deepEqual(chunks.at(-1).usage, plain.usage);
    assert.ok(chunks.slice(0, -1).every((chunk) => chunk.usage == null));
  });

  test("the stream helper", async () => {
    const plain = await client().chat.completions.create(ask());
    const stream = client().chat.completions.stream(ask({ stream_options: { include_usage: true } }));
    let said = "";
    stream.on("content", (delta) => (said += delta));
    const final = await stream.finalChatCompletion();
    assert.equal(said, plain.choices[0].message.content);
    assert.equal(final.choices[0].message.content, said);
    assert.deepEqual(final.usage, plain.usage);
    assert.equal((await stream.totalUsage()).total_tokens, plain.usage.total_tokens);
  });

  test("a stream handed on with toReadableStream", async () => {
    const first = await client().chat.completions.create(ask({ stream: true }));
    const { ChatCompletionStream } = await import("openai/lib/ChatCompletionStream");
    const second = ChatCompletionStream.fromReadableStream(first.toReadableStream());
    const plain = await client().chat.completions.create(ask());
    assert.equal(await second.finalContent(), plain.choices[0].message.content);
  });

  test("tools, plain and streamed", async () => {
    const forced = ask({ tools: [WEATHER], tool_choice: "required" });
    const plain = await client().chat.completions.create(forced);
    const [tool] = plain.choices[0].message.tool_calls;
    assert.equal(tool.function.name, "get_weather");
    assert.equal(plain.choices[0].finish_reason, "tool_calls");
    assert.ok("city" in JSON.parse(tool.function.arguments));

    const helper = client().chat.completions.stream(forced);
    const streamed = await helper.finalChatCompletion();
    assert.equal(streamed.choices[0].message.tool_calls[0].function.arguments, tool.function.arguments);

    const result = { role: "tool", tool_call_id: tool.id, content: "sunny" };
    const messages = [...HELLO, plain.choices[0].message, result];
    const after = await client().chat.completions.create({ model: MODEL, messages, tools: [WEATHER] });
    assert.ok(after.choices[0].message.content);
  });

  test("the tool runner calls our function and goes on", async () => {
    const asked = [];
    const run = (args) => {
      asked.push(args);
      return "sunny";
    };
    const tools = [{ ...WEATHER, function: { ...WEATHER.function, function: run, parse: JSON.parse } }];
    // The simulator calls the tool a user names, and answers in words once it has the result.
    const messages = [{ role: "user", content: "Ask get_weather about Rome." }];
    const runner = client().chat.completions.runTools({ model: MODEL, messages, tools });
    assert.match(await runner.finalContent(), /\w/);
    assert.equal(asked.length, 1);
    assert.ok("city" in asked[0]);
    assert.deepEqual(runner.messages.map((m) => m.role), ["user", "assistant", "tool", "assistant"]);
  });

  // This helper keeps the last piece alone of what it does not know: what it dropped is put back on the way.
  for (const model of ["simulator-anthropic/claude-sonnet-4-5", "simulator-responses/gpt-5-mini", "simulator-gemini/gemini-3-pro-preview"]) {
    test(`the stream helper's thoughts go back: ${model}`, async () => {
      const more = { model, tools: [WEATHER], reasoning_effort: "low" };
      const asked = [{ role: "user", content: "Use get_weather please." }];
      const streamed = await client().chat.completions.stream({ ...more, messages: asked }).finalChatCompletion();
      const said = streamed.choices[0].message;
      assert.ok("reasoning_content" in said);
      const result = { role: "tool", tool_call_id: said.tool_calls[0].id, content: "sunny" };
      const after = await client().chat.completions.create({ ...more, messages: [...asked, said, result] }).withResponse();
      assert.match(after.data.choices[0].message.content, /sunny/);
      assert.doesNotMatch(after.response.headers.get("x-weir-warnings") ?? "", /thinking/);
    });
  }

  test("several choices", async () => {
    const answer = await client().chat.completions.create(ask({ n: 3 }));
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2]);
  });

  test("request ids and who answered", async () => {
    const headers = { "x-request-id": "node-1" };
    const { data, response } = await client().chat.completions.create(ask(), { headers }).withResponse();
    assert.equal(response.headers.get("x-request-id"), "node-1");
    assert.equal(data._request_id, "node-1");
    assert.ok(response.headers.get("x-weir-provider"));
    assert.equal(response.headers.get("x-weir-model"), MODEL);
    const own = await client().chat.completions.create(ask());
    assert.ok(own._request_id);
    assert.notEqual(own._request_id, "node-1");
  });

  test("fields the SDK does not know pass", async () => {
    const answer = await client().chat.completions.create(ask({ x_sim: { tokens: 7 } }));
    assert.equal(answer.usage.completion_tokens, 7);
  });

  test("the other base URL", async () => {
    const answer = await client({ base: "/api/v1" }).chat.completions.create(ask());
    assert.ok(answer.choices[0].message.content);
  });

  test("many at once", async () => {
    const asks = Array.from({ length: 32 }, (_, n) => ask({ messages: [{ role: "user", content: String(n) }] }));
    const openai = client();
    const answers = await Promise.all(asks.map((one) => openai.chat.completions.create(one)));
    assert.equal(new Set(answers.map((answer) => answer.id)).size, 32);
  });
});

test("models", async () => {
  const ids = (await collect(client().models.list())).map((model) => model.id);
  assert.ok(ids.includes(MODEL));
  const one = await client().models.retrieve(MODEL);
  assert.deepEqual([one.id, one.object], [MODEL, "model"]);
  await assert.rejects(client().models.retrieve("no-such-model"), OpenAI.NotFoundError);
});

describe("errors", () => {
  const refused = async (kind, more, options) => {
    const error = await client(options).chat.completions.create(ask(more)).then(
      () => assert.fail("was answered"),
      (error) => error,
    );
    assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
    return error;
  };

  test("a wrong key", async () => {
    const error = await refused(OpenAI.AuthenticationError, {}, { apiKey: "pk_live_nonsense" });
    assert.deepEqual([error.status, error.code], [401, "invalid_api_key"]);
    assert.ok(error.requestID);
  });

  test("an unknown model, plain and streamed", async () => {
    for (const stream of [false, true]) {
      const error = await refused(OpenAI.NotFoundError, { model: "no-such-model", stream });
      assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
    }
  });

  test("wrong values name their field", async () => {
    const role = await refused(OpenAI.BadRequestError, { messages: [{ role: "wizard", content: "x" }] });
    assert.equal(role.param, "messages[0].role");
    const temperature = await refused(OpenAI.BadRequestError, { temperature: 9 });
    assert.equal(temperature.param, "temperature");
  });

  test("a missing scope", async () => {
    const { secret } = await call("POST", "/v1/api-keys", { name: "reader", scopes: ["models:read"] });
    const error = await refused(OpenAI.PermissionDeniedError, {}, { apiKey: secret });
    assert.equal(error.code, "permission_denied");
  });

  test("over the limit: when to come again, and what is left", async () => {
    const apiKey = await limitedKey(1);
    const { response } = await client({ apiKey }).chat.completions.create(ask()).withResponse();
    assert.equal(response.headers.get("x-ratelimit-limit-requests"), "1");
    assert.equal(response.headers.get("x-ratelimit-remaining-requests"), "0");
    const error = await refused(OpenAI.RateLimitError, {}, { apiKey });
    assert.equal(error.code, "rate_limit_exceeded");
    assert.ok(Number(error.headers.get("retry-after")) > 0);
    assert.ok(Number(error.headers.get("retry-after-ms")) > 0);
  });

  test("the provider's errors, and its retry-after", async () => {
    const broken = await refused(OpenAI.InternalServerError, { x_sim: { status: 500 } });
    assert.equal(broken.status, 500);
    const busy = await refused(OpenAI.RateLimitError, { x_sim: { status: 429, retry_after: 7 } });
    assert.equal(busy.headers.get("retry-after"), "7");
  });

  test("the SDK retries what it may retry, and only that", async () => {
    let before = (await ledger()).failed.calls;
    const patient = client({ maxRetries: 1 }).chat.completions;
    await assert.rejects(patient.create(ask({ x_sim: { status: 503 } })), OpenAI.InternalServerError);
    assert.ok((await ledger()).failed.calls - before >= 2);

    let sent = 0;
    const counting = (...args) => (sent++, fetch(...args));
    const wrong = client({ maxRetries: 3, fetch: counting }).chat.completions;
    await assert.rejects(wrong.create(ask({ temperature: 9 })), OpenAI.BadRequestError);
    assert.equal(sent, 1);
  });

  test("a stream that breaks off says so", async () => {
    const faulty = ask({ stream: true, x_sim: { tokens: 50, token_ms: 5, cut_after: 5 } });
    const stream = await client().chat.completions.create(faulty);
    const chunks = [];
    await assert.rejects(
      async () => {
        for await (const chunk of stream) chunks.push(chunk);
      },
      (error) => error instanceof OpenAI.APIError && error.code === "upstream_failed",
    );
    assert.ok(textOf(chunks));
  });
});

// One after the other, as all tests of a file: they count the provider's cancelled calls.
describe("giving up", () => {
  const slow = ask({ x_sim: { tokens: 5000, token_ms: 20 } });
  const cancelled = async () => (await ledger()).cancelled.calls;

  test("a break out of for await ends the provider's call", async () => {
    const before = await cancelled();
    let seen = 0;
    for await (const _ of await client().chat.completions.create({ ...slow, stream: true })) {
      if (++seen === 3) break;
    }
    await until("the provider saw the end", async () => (await cancelled()) > before);
  });

  test("the helper's abort", async () => {
    const before = await cancelled();
    const stream = client().chat.completions.stream(slow);
    stream.once("content", () => stream.abort());
    await assert.rejects(stream.done(), OpenAI.APIUserAbortError);
    await until("the provider saw the end", async () => (await cancelled()) > before);
  });

  test("an AbortSignal before the first token", async () => {
    const before = await cancelled();
    const stop = new AbortController();
    const silent = ask({ x_sim: { first_token_ms: 60_000 } });
    const asked = client().chat.completions.create(silent, { signal: stop.signal });
    const ended = assert.rejects(asked, OpenAI.APIUserAbortError);
    await until("the provider was asked", async () => (await ledger()).running > 0);
    stop.abort();
    await ended;
    await until("the provider saw the end", async () => (await cancelled()) > before);
  });
});

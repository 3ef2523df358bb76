// Google's official Node SDK, unmodified, before a real house: crates/e2e/node/run.sh

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ApiError, FunctionCallingConfigMode, GoogleGenAI } from "@google/genai";
import { CLAUDE, MODEL, PIXEL, collect, dev, forEach } from "./house.js";

const client = () =>
  new GoogleGenAI({ apiKey: dev.api_key, httpOptions: { baseUrl: `${dev.gateway}/genai`, timeout: 60_000 } });
const SCHEMA = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const WEATHER = { functionDeclarations: [{ name: "get_weather", description: "The weather.", parametersJsonSchema: SCHEMA }] };
const contents = "Say hello.";
const each = forEach(["gemini-2.5-flash", MODEL, CLAUDE]);

describe("gemini", () => {
  each("plain, streamed and counted", async (model) => {
    const plain = await client().models.generateContent({ model, contents });
    assert.equal(plain.candidates[0].finishReason, "STOP");
    const chunks = await collect(await client().models.generateContentStream({ model, contents }));
    assert.equal(chunks.map((chunk) => chunk.text ?? "").join(""), plain.text);
    assert.equal(chunks.at(-1).usageMetadata.totalTokenCount, plain.usageMetadata.totalTokenCount);
    assert.ok((await client().models.countTokens({ model, contents })).totalTokens > 0);
  });

  each("tools in two turns", async (model) => {
    const asked = { role: "user", parts: [{ text: 'Ask get_weather({"city": "Oslo"}).' }] };
    const config = { tools: [WEATHER] };
    const first = await client().models.generateContent({ model, contents: [asked], config });
    const [call] = first.functionCalls;
    assert.deepEqual([call.name, call.args], ["get_weather", { city: "Oslo" }]);
    const result = { functionResponse: { id: call.id, name: call.name, response: { result: "sunny at noon" } } };
    const turn = [asked, first.candidates[0].content, { role: "user", parts: [result] }];
    const second = await client().models.generateContent({ model, contents: turn, config });
    assert.match(second.text, /sunny at noon/);
    const functionCallingConfig = { mode: FunctionCallingConfigMode.NONE };
    const none = { ...config, toolConfig: { functionCallingConfig } };
    const words = await client().models.generateContent({ model, contents: [asked], config: none });
    assert.equal(words.functionCalls, undefined);
  });

  each("chats, images, structured output", async (model) => {
    const chat = client().chats.create({ model });
    await chat.sendMessage({ message: "Say hello." });
    assert.ok((await chat.sendMessage({ message: "And again." })).text);
    assert.equal(chat.getHistory().length, 4);
    const image = { inlineData: { mimeType: "image/png", data: PIXEL } };
    const seen = await client().models.generateContent({ model, contents: [image, { text: "What is this?" }] });
    assert.ok(seen.text);
    const config = { responseMimeType: "application/json", responseJsonSchema: SCHEMA };
    const answer = await client().models.generateContent({ model, contents: "A place.", config });
    assert.deepEqual(Object.keys(JSON.parse(answer.text)), ["city"]);
  });

  test("errors", async () => {
    await assert.rejects(
      client().models.generateContent({ model: "no-such-model", contents }),
      (error) => error instanceof ApiError && error.status === 404,
    );
    const broken = 'Say hello. [x_sim {"tokens": 50, "token_ms": 5, "cut_after": 5}]';
    const stream = await client().models.generateContentStream({ model: MODEL, contents: broken });
    await assert.rejects(collect(stream));
  });
});

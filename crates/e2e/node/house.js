// The house under test, as `dev.json` describes it, and the clients to ask it with.

import { readFileSync } from "node:fs";
import { test } from "node:test";
import OpenAI from "openai";

export const HELLO = [{ role: "user", content: "Say hello." }];
// Of a provider that speaks OpenAI's dialect, and of one of Anthropic's.
export const MODEL = "gpt-4o-mini";
export const CLAUDE = "claude-haiku-4-5";
export const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const PATIENCE_MS = 60_000;

const named = process.env.WEIR_DEV_JSON;
if (!named) throw new Error("WEIR_DEV_JSON names no house: run crates/e2e/node/run.sh");
export const dev = JSON.parse(readFileSync(named, "utf8"));

export function client({ base = "/v1", ...options } = {}) {
  return new OpenAI({
    apiKey: dev.api_key,
    baseURL: dev.gateway + base,
    maxRetries: 0,
    timeout: PATIENCE_MS,
    ...options,
  });
}

/** One REST call that must succeed: its JSON. */
export async function call(method, path, body, headers = {}) {
  const answer = await fetch(dev.gateway + path, {
    method,
    headers: { authorization: `Bearer ${dev.api_key}`, "content-type": "application/json", ...headers },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text && JSON.parse(text);
}

/** A key of a new tenant that may make so many requests a minute. */
export async function limitedKey(requests_per_minute) {
  const operator = { authorization: `Bearer ${dev.admin_key}` };
  const limits = { name: "limited", tier: "free", rate_limits: { requests_per_minute } };
  const tenant = await call("POST", "/v1/tenants", limits, operator);
  const made = await call("POST", "/v1/api-keys", { name: "limited" }, { ...operator, "x-tenant-id": tenant.id });
  return made.secret;
}

/** The simulated provider's sums. */
export async function ledger() {
  return (await fetch(`${dev.simulator}/_sim/ledger`)).json();
}

/** Polls until the condition gives something true. */
export async function until(what, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  while (Date.now() < deadline) {
    const found = await condition();
    if (found) return found;
    await new Promise((resume) => setTimeout(resume, 50));
  }
  throw new Error(`never came: ${what}`);
}

export async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

export const textOf = (chunks) => chunks.map((c) => c.choices[0]?.delta.content ?? "").join("");

/** One test for several models, each by its own name. */
export const forEach =
  (models, one = test) =>
  (name, body) =>
    models.map((model) => one(`${name}: ${model}`, () => body(model)));

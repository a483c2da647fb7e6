// What each TypeScript client does: predict, rank with progress, cancel, render, read the resource.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const PROMPT = "a red circle left of a blue square on a white background";

// The era, and the URL or the command to talk to.
export function target() {
  const [era, ...rest] = process.argv.slice(2);
  const url = rest[0].startsWith("http") ? new URL(rest[0]) : undefined;
  return { era, url, command: rest[0], args: rest.slice(1), over: url ? "HTTP" : "stdio" };
}

// The progress that an error quotes.
const inside = (text) => JSON.parse(text.slice(text.indexOf("{"))).params;

// `call(tool, arguments, options)` gives the result of a call.
export async function session(client, call, about) {
  const { tools } = await client.listTools();
  assert.equal(tools.length, 5);

  const done = async (tool, args, options) => {
    const result = await call(tool, args, options);
    assert(!result.isError, JSON.stringify(result.content));
    return result;
  };
  const predicted = await done("predict_quality", { prompt: PROMPT, seeds: [1, 2] });
  assert.equal(predicted.structuredContent.candidates.length, 2);

  const told = [];
  const late = [];
  client.onerror = (error) => late.push(error.message);
  const ranked = await done(
    "rank_seeds",
    { prompt: PROMPT, count: 6, keep: 2 },
    { onprogress: (progress) => told.push(progress) },
  );
  const { ranking } = ranked.structuredContent;
  assert.equal(new Set(ranking.map((row) => row.seed)).size, 6);
  assert(told.length >= 2 && told[0].progress === 0, JSON.stringify(told));
  assert(told.every((note, i) => i === 0 || told[i - 1].progress < note.progress));
  // What the SDK reads along with the answer it hands on after it, and as an error
  // (modelcontextprotocol/typescript-sdk#2580).
  await new Promise(setImmediate);
  const last = [told.at(-1), ...late.filter((text) => text.includes("unknown token")).map(inside)].at(-1);
  assert.equal(last.progress, last.total, JSON.stringify([told, late]));

  // Seeds that no session had before: what a server has done already it answers at once.
  const fresh = Math.floor(Math.random() * 4e9);
  const seeds = Array.from({ length: 250 }, (_, i) => fresh + i);
  const enough = new AbortController();
  setTimeout(() => enough.abort("enough"), 500);
  await assert.rejects(
    call("predict_quality", { prompt: "a green ring", seeds }, { signal: enough.signal }),
  );
  const began = Date.now();
  await done("predict_quality", { prompt: "a cyan heart", seeds: [3] });
  const waited = (Date.now() - began) / 1000;
  assert(waited < 20, `the cancelled call was in the way for ${waited} s`);

  const rendered = await done("render", { handle: ranking[0].handle });
  assert(rendered.content.some((block) => block.type === "image"));
  const link = rendered.content.find((block) => block.type === "resource_link");
  const { contents } = await client.readResource({ uri: link.uri });
  const png = Buffer.from(contents[0].blob, "base64");
  assert(png.equals(readFileSync(rendered.structuredContent.path)));
  await client.close();
  console.log(`${about}: predicted, ranked with ${told.length} notes of progress, cancelled, rendered, read`);
  // The transport may still hold a timer.
  process.exit(0);
}

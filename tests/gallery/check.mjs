// The gallery as a person meets it: the real server over stdio, a real browser, the keyboard.
//   node check.mjs BINARY [PICTURE.png]     the picture is a screenshot of the finished gallery
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import esbuild from "esbuild";
import { chromium } from "playwright-core";

const [binary, picture] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const said = what => console.log(`ok  ${what}`);
const folder = mkdtempSync(join(tmpdir(), "foreseed-gallery-"));

const server = new Client({ name: "gallery-test", version: "1" });
await server.connect(new StdioClientTransport({ command: binary, args: ["serve", "--data", folder] }));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--force-color-profile=srgb"],
});
try {
  await check();
} finally {
  await browser.close();
  await server.close();
  rmSync(folder, { recursive: true, force: true });
}

async function check() {
  // What a host does first: find the gallery by the tool, and read it.
  const { tools } = await server.listTools();
  const uri = tools.find(t => t.name === "rank_seeds")._meta.ui.resourceUri;
  const { contents: [page] } = await server.readResource({ uri });
  assert.equal(page.mimeType, "text/html;profile=mcp-app");
  said(`rank_seeds leads to ${uri}, ${page.text.length} bytes`);

  const { view, problems, frame } = await openHost(page.text);
  const asked = {
    prompt: "a small orange heart, a purple ring above a green star on a white background",
    count: 10,
    keep: 3,
  };
  await view.evaluate(args => window.bridge.sendToolInput({ arguments: args }), asked);
  await frame.getByText("Ranking 10 seeds…").waitFor();
  const result = await server.callTool({ name: "rank_seeds", arguments: asked });
  const { ranking } = result.structuredContent;

  // A ranking that is not finished goes on from the gallery itself.
  const half = { ...result.structuredContent, ranking: ranking.slice(0, 4), complete: false };
  await show(view, { content: [], structuredContent: half });
  await frame.getByRole("button", { name: "Go on ranking" }).click();
  await frame.locator("#cards > li").nth(9).waitFor();
  await frame.locator("#cards img").nth(9).waitFor();
  said("an unfinished ranking goes on, and every candidate has its preview");

  const seen = await frame.locator("#cards > li").evaluateAll(cards => cards.map(card => ({
    handle: card.dataset.handle,
    rank: card.querySelector(".rank").textContent,
    seed: card.querySelector(".seed").textContent,
    quality: card.querySelector(".quality").textContent,
    best: card.classList.contains("best"),
    side: card.querySelector("img").naturalWidth,
  })));
  assert.deepEqual(seen, ranking.map(c => ({
    handle: c.handle,
    rank: `#${c.rank}`,
    seed: `seed ${c.seed}`,
    quality: c.quality.toFixed(2),
    best: c.rank <= 3,
    side: 384,
  })));
  said("rank, seed and quality stand on each card, best first");

  // By keyboard alone: to the second card, and render it.
  await frame.getByRole("button", { name: /^Render seed/ }).first().focus();
  await view.keyboard.press("ArrowRight");
  const second = ranking[1];
  assert.equal(await focused(frame), `Render seed ${second.seed}, rank 2`);
  await view.keyboard.press("Enter");
  const card = frame.locator(`li[data-handle="${second.handle}"]`);
  await card.locator(".state", { hasText: /^rendered$/ }).waitFor();
  const status = await frame.getByRole("status").textContent();
  const path = status.replace(/^Seed \d+ is rendered: /, "");
  assert.ok(existsSync(path), status);
  const { contents: [record] } = await server.readResource({ uri: `foreseed://candidates/${second.handle}` });
  const { render } = JSON.parse(record.text);
  assert.equal(render.path, path);
  assert.match(await card.locator(".measured").textContent(), new RegExp(render.measured.composition.toFixed(2)));
  const told = await view.evaluate(() => window.heard.filter(([what]) => what === "context"));
  assert.match(told[0][1].content[0].text, new RegExp(second.handle));
  said(`Enter rendered rank 2 to ${path.split("/").pop()}, and the agent is told`);

  await view.keyboard.press("Enter"); // the focus went on to the card's other button
  await frame.getByRole("dialog").waitFor();
  await frame.locator("#words-picture").evaluate(image => image.decode());
  await inspect(view, frame, "the words");
  if (picture) await view.screenshot({ path: picture.replace(/\.png$/, "-words.png") });
  await view.keyboard.press("Escape");
  await frame.getByRole("dialog").waitFor({ state: "hidden" });
  said("the words are looked at and left by keyboard");

  for (const theme of ["dark", "light"]) {
    await view.evaluate(t => (window.dress(t), window.bridge.sendHostContextChange({ theme: t })), theme);
    await inspect(view, frame, theme);
    if (picture) {
      const file = theme === "light" ? picture : picture.replace(/\.png$/, "-dark.png");
      await photograph(view, frame, file);
    }
  }
  await view.setViewportSize({ width: 340, height: 700 });
  const wide = await frame.locator("html").evaluate(root => root.scrollWidth - root.clientWidth);
  assert.equal(wide, 0);
  said("light, dark and narrow: no fault that axe knows, nothing cut off");

  // What goes wrong is said.
  await show(view, { isError: true, content: [{ type: "text", text: "prompt: pocket knows no dragon" }] });
  await frame.getByText("pocket knows no dragon").waitFor();
  const gone = { ...result.structuredContent, ranking: [{ ...ranking[0], handle: `fs_${"0".repeat(32)}` }] };
  await show(view, { content: [], structuredContent: gone });
  await frame.getByText("no preview").waitFor();
  await frame.getByRole("button", { name: /^Render seed/ }).click();
  await frame.getByText(/could not be rendered: .*never given out/).waitFor();
  assert.deepEqual(problems, []);
  said("failures are said where the person looks, and nothing was asked over the network");
}

/** A page with the host in it, in which the gallery has shaken hands. */
async function openHost(html) {
  const bundle = await esbuild.build({
    entryPoints: [new URL("host.mjs", import.meta.url).pathname],
    bundle: true, format: "iife", write: false, logLevel: "silent",
    nodePaths: [join(process.cwd(), "node_modules")],
  });
  const view = await browser.newPage({ viewport: { width: 940, height: 700 } });
  const problems = [];
  view.on("console", message => message.type() === "error" && problems.push(message.text()));
  view.on("pageerror", error => problems.push(error.message));
  const served = {
    "/": ["text/html", `<!doctype html><html lang="en"><title>Host</title><style>
      body { margin: 0; } iframe { display: block; width: 100%; border: 0; }</style>
      <script src="/host.js"></script><script>
      window.dress = theme => { document.body.style.background = theme === "dark" ? "#1d1e21" : "#fff"; };
      </script>`],
    "/host.js": ["text/javascript", bundle.outputFiles[0].text],
  };
  // The policy that the specification gives to an app that names no domains; its frame inherits it.
  const policy = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:";
  await view.route("**/*", route => {
    const url = new URL(route.request().url());
    const found = url.host === "host.test" && served[url.pathname];
    if (!found) {
      problems.push(`asked for ${url}`);
      return route.abort();
    }
    return route.fulfill({ contentType: found[0], body: found[1], headers: { "Content-Security-Policy": policy } });
  });
  await view.exposeFunction("relay", (method, params) => server[method](params));
  await view.goto("http://host.test/");
  await view.evaluate(([text, theme]) => window.mount(text, theme), [html, "light"]);
  const frame = view.frames().find(f => f !== view.mainFrame());
  said(`shaken hands in ${await browser.version()}`);
  return { view, problems, frame };
}

function show(view, result) {
  return view.evaluate(r => window.bridge.sendToolResult(r), result);
}

function focused(frame) {
  return frame.evaluate(() => document.activeElement.getAttribute("aria-label"));
}

/** A screenshot of the whole gallery, taken once it is painted. */
async function photograph(view, frame, path) {
  const height = await frame.evaluate(() => Math.ceil(document.documentElement.getBoundingClientRect().height));
  await view.setViewportSize({ width: 940, height: height + 8 });
  await frame.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
  await frame.waitForTimeout(250);
  const png = await view.screenshot({ path });
  assert.ok(png.length > 60_000, `${path} shows nothing: ${png.length} bytes`);
}

/** Holds the page against axe's rules of WCAG 2.2 A and AA. */
async function inspect(view, frame, what) {
  await frame.evaluate(readFileSync(require.resolve("axe-core/axe.min.js"), "utf8"));
  const found = await frame.evaluate(() => window.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    rules: { region: { enabled: false } }, // the host's page holds the landmarks
  }));
  const faults = found.violations.map(v => `${v.id}: ${v.nodes.map(n => n.html).join(" ")}`);
  assert.deepEqual(faults, [], what);
}

// The TypeScript SDK 1, which most clients are built on: `typescript_v1.mjs ERA URL|COMMAND ARGS...`.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { session, target } from "./session.mjs";

const { era, url, command, args, over } = target();
const client = new Client({ name: "session", version: "1" });
await client.connect(
  url ? new StreamableHTTPClientTransport(url) : new StdioClientTransport({ command, args }),
);
const call = (name, given, options) => client.callTool({ name, arguments: given }, undefined, options);
await session(client, call, `TypeScript SDK 1, ${era}, ${over}`);

// The TypeScript SDK 2, of both eras: `typescript_v2.mjs ERA URL|COMMAND ARGS...`.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { session, target } from "./session.mjs";

const { era, url, command, args, over } = target();
const mode = era === "legacy" ? era : { pin: era };
const client = new Client({ name: "session", version: "1" }, { versionNegotiation: { mode } });
await client.connect(
  url ? new StreamableHTTPClientTransport(url) : new StdioClientTransport({ command, args }),
);
const call = (name, given, options) => client.callTool({ name, arguments: given }, options);
await session(client, call, `TypeScript SDK 2, ${era}, ${over}`);

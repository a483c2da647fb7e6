// A host page: the gallery in a sandboxed frame behind MCP Apps' own AppBridge. What the gallery asks
// of the server goes out through `relay`, which the test provides.
import { AppBridge, PostMessageTransport } from "@modelcontextprotocol/ext-apps/app-bridge";

window.heard = []; // what the gallery told the host, in order

window.mount = async (html, theme) => {
  document.querySelector("iframe")?.remove();
  window.heard.length = 0;
  const frame = document.createElement("iframe");
  frame.title = "Gallery";
  frame.sandbox = "allow-scripts";
  document.body.append(frame);
  const bridge = new AppBridge(
    null,
    { name: "test host", version: "1" },
    { serverTools: {}, serverResources: {}, updateModelContext: { text: {} } },
    { hostContext: { theme, displayMode: "inline", platform: "web" } },
  );
  bridge.oncalltool = params => window.relay("callTool", params);
  bridge.onreadresource = params => window.relay("readResource", params);
  bridge.onupdatemodelcontext = async params => (window.heard.push(["context", params]), {});
  bridge.onsizechange = ({ height }) => {
    window.heard.push(["size", height]);
    frame.style.height = `${height}px`;
  };
  const ready = new Promise(resolve => { bridge.oninitialized = resolve; });
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  frame.srcdoc = html;
  await ready;
  window.bridge = bridge;
};

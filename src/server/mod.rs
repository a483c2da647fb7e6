//! The MCP server: tools, prompts and resources over stdio. The only module that knows MCP.

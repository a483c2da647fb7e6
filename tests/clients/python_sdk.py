"""The Python SDK: `python_sdk.py ERA URL` or `python_sdk.py ERA COMMAND ARGS...`."""

import anyio
from mcp import Client, StdioServerParameters

from session import session, target


async def main():
    era, where = target()
    over = "HTTP" if isinstance(where, str) else "stdio"
    server = where if over == "HTTP" else StdioServerParameters(command=where[0], args=where[1:])
    async with Client(server, mode=era) as client:

        async def call(tool, arguments, progress):
            return await client.call_tool(tool, arguments, progress_callback=progress)

        async def list_tools():
            return (await client.list_tools()).tools

        async def read_resource(uri):
            return (await client.read_resource(uri)).contents

        async def give_up_after(seconds, tool, arguments):
            with anyio.move_on_after(seconds) as scope:
                await client.call_tool(tool, arguments)
            assert scope.cancelled_caught

        await session(call, list_tools, read_resource, give_up_after, f"mcp, {era}, {over}")


anyio.run(main)

"""fastmcp's client: `fastmcp_session.py ERA URL` or `fastmcp_session.py ERA COMMAND ARGS...`."""

import anyio
from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

from session import session, target


async def main():
    era, where = target()
    over = "HTTP" if isinstance(where, str) else "stdio"
    if over == "HTTP":
        transport = StreamableHttpTransport(where)
    else:
        transport = StdioTransport(command=where[0], args=where[1:])
    async with Client(transport, mode=era) as client:

        async def call(tool, arguments, progress):
            return await client.call_tool(tool, arguments, progress_handler=progress)

        async def give_up_after(seconds, tool, arguments):
            with anyio.move_on_after(seconds) as scope:
                await client.call_tool(tool, arguments)
            assert scope.cancelled_caught

        await session(
            call, client.list_tools, client.read_resource, give_up_after, f"fastmcp, {era}, {over}"
        )


anyio.run(main)

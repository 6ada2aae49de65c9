"""The official Python SDK against Athena over stdio: lists the tools, remembers, recalls, runs code."""
import asyncio
import os

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

SERVER = StdioServerParameters(
    command=os.environ["ATHENA"], args=["--store", os.environ["STORE"], "serve"], env=dict(os.environ)
)


async def main() -> None:
    async with stdio_client(SERVER) as (read, write), ClientSession(read, write) as session:
        init = await session.initialize()
        assert init.server_info.name == "athena", init
        tools = await session.list_tools()
        assert [tool.name for tool in tools.tools] == ["execute", "search", "recall", "remember"], tools

        kept = await session.call_tool("remember", {"content": "the kettle is in the blue cupboard"})
        assert not kept.is_error, kept
        assert kept.structured_content["seq"] > 0, kept

        found = await session.call_tool("recall", {"query": "where is the kettle"})
        assert kept.structured_content["id"] in str(found.structured_content), found

        ran = await session.call_tool("execute", {"code": "return 1 + 1"})
        assert ran.structured_content["value"] == 2, ran

        code = 'const hits = await athena.episodic.recall({query: "kettle"}); return hits.length;'
        ran = await session.call_tool("execute", {"code": code, "language": "ts"})
        assert ran.structured_content["value"] >= 1, ran

        wrong = await session.call_tool("semantic_search", {"query": "kettle"})
        assert wrong.is_error and "athena.semantic.search" in str(wrong.structured_content), wrong


asyncio.run(main())

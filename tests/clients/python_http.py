"""The official Python SDK against Athena over streamable HTTP, in both eras of the protocol."""
import asyncio
import os

import httpx2
from mcp import ClientSession
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

URL, TOKEN = os.environ["URL"], os.environ["TOKEN"]


def http(token: str = TOKEN) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60)


async def main() -> None:
    async with streamable_http_client(URL, http_client=http()) as streams, ClientSession(streams[0], streams[1]) as session:
        await session.initialize()
        kept = await session.call_tool("remember", {"content": "the kettle is in the blue cupboard"})
        assert kept.structured_content["seq"] > 0, kept
        ran = await session.call_tool("execute", {"code": "return 20 + 22"})
        assert ran.structured_content["value"] == 42, ran

    async with Client(streamable_http_client(URL, http_client=http())) as client:
        found = await client.call_tool("recall", {"query": "kettle"})
        assert "blue cupboard" in str(found.structured_content), found

    async with http("wrong") as stranger:
        refused = await stranger.post(URL, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert refused.status_code == 401, refused
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            refused = await stranger.post(URL, json={}, headers={**headers, "Authorization": f"Bearer {TOKEN}"})
            assert refused.status_code == 403, (headers, refused)


asyncio.run(main())

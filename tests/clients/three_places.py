"""The official Python SDK: one `execute` whose code uses Athena's memory and two real npm servers, over stdio.

`server-filesystem` reads, `server-everything` computes, memory keeps and finds: the data flows between them and not through
the client. A write to the file system is asked about first; a person says yes at the command line, and the run goes on.
"""
import asyncio
import json
import os
import subprocess
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

ATHENA, STORE, CLIENTS = (os.environ[name] for name in ("ATHENA", "STORE", "CLIENTS"))
FOLDER = os.path.join(STORE, "documents")
SERVER = StdioServerParameters(command=ATHENA, args=["--store", STORE, "serve"], env=dict(os.environ))

READS = """
const notes = await folder.list_directory({path: input.folder});
const text = (await folder.read_text_file({path: input.folder + "/kettle.md"})).content;
const lines = text.trim().split("\\n").length;
const sum = await everything.get_sum({a: lines, b: 40});
const kept = await athena.semantic.store({content: "The kettle file says: " + text.trim().split("\\n")[0]});
const hits = await athena.semantic.search({query: "what does the kettle file say"});
return {listed: notes.content.includes("kettle.md"), lines, sum: sum.content, found: hits.some((hit) => hit.id === kept.id)};
"""

WRITES = """
const said = await everything.echo({message: "boiled"});
await folder.write_file({path: input.folder + "/log.txt", content: said.content});
return (await folder.read_text_file({path: input.folder + "/log.txt"})).content;
"""


def athena(*arguments: str) -> dict:
    done = subprocess.run([ATHENA, "--store", STORE, "--json", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout)


def connect() -> None:
    """Two pinned servers, added as people add them."""
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "kettle.md"), "w", encoding="utf-8") as file:
        file.write("The kettle is in the blue cupboard.\nIt boils in three minutes.\n")
    modules = os.path.join(CLIENTS, "node_modules", "@modelcontextprotocol")
    athena("upstream", "add", "everything", "--", "node", f"{modules}/server-everything/dist/index.js")
    athena("upstream", "add", "folder", "--", "node", f"{modules}/server-filesystem/dist/index.js", FOLDER)
    # Servers start in the background; a test waits until one has answered.
    for server in ("everything", "folder"):
        assert athena("upstream", "test", server)["status"]["health"] == "ready"


async def main() -> None:
    connect()
    async with stdio_client(SERVER) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        found = (await session.call_tool("search", {"query": "read a text file", "in": "tools"})).structured_content
        assert any("folder/read_text_file" in line for line in found["results"]), found

        async def execute(code: str, **more) -> dict:
            return (await session.call_tool("execute", {"code": code, "input": {"folder": FOLDER}, **more})).structured_content

        ran = await execute(READS)
        assert ran["status"] == "completed", ran
        value = ran["value"]
        assert value["listed"] and value["lines"] == 2 and "42" in value["sum"] and value["found"], value

        code = 'const r = await callMCPTool("everything/get-sum", {"a": 1, "b": 2}); return r'
        assert "3" in (await execute(code, language="js"))["value"]["content"]
        python = "r = everything.get_sum(a=20, b=22)\nr['content']"
        ran = await execute(python, language="py")
        assert ran["status"] == "completed" and "42" in ran["value"], ran

        ran = await execute(WRITES)
        if ran["status"] == "approval_required":
            athena("approve", ran["approval"])
            ran = (await session.call_tool("execute", {"run": ran["run"]})).structured_content
        assert ran["status"] == "completed" and "boiled" in ran["value"], ran
        with open(os.path.join(FOLDER, "log.txt"), encoding="utf-8") as file:
            assert "boiled" in file.read()

        wrong = await execute("return await folder.read_text_file({path: 7})")
        assert wrong["status"] == "failed" and "path" in wrong["error"]["message"], wrong


try:
    asyncio.run(main())
finally:
    sys.stdout.flush()

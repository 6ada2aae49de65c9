"""The official Python SDK has very many runs made, each of which calls another server through Athena: the daemon's memory stays flat,
and no process is left over. $ATHENA_EXECUTES says how many; 300 where it is not set."""
import asyncio
import json
import os
import pathlib
import subprocess
import time

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

ATHENA, STORE = os.environ["ATHENA"], os.environ["STORE"]
RUNS = int(os.environ.get("ATHENA_EXECUTES", "300"))
# What is built once is built after these: caches, the pool, the first files of the log.
FIRST = max(100, RUNS // 10)
GROWTH_MAX = 32 << 20
SERVER = StdioServerParameters(command=ATHENA, args=["--store", STORE, "serve"], env=dict(os.environ))
KIT = pathlib.Path(__file__).parent.parent / "support" / "hostile.py"


def athena(*arguments: str) -> dict:
    said = subprocess.run([ATHENA, "--store", STORE, "--json", *arguments], check=True, capture_output=True)
    return json.loads(said.stdout)


def children(pid: int) -> list[tuple[int, str]]:
    """The processes that a process has, each with its state."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            try:
                stat = pathlib.Path(f"/proc/{child}/stat").read_text()
            except OSError:
                continue
            found.append((int(child), stat.rpartition(")")[2].split()[0]))
    return found


async def main() -> None:
    # More a minute than an upstream is asked for unless somebody says so: the runs are quicker than that.
    kit = {"command": "python3", "args": [str(KIT)], "per_minute": 100_000}
    athena("call", "upstream/add", json.dumps({"server": "kit", "config": kit}))
    athena("upstream", "test", "kit")
    async with stdio_client(SERVER) as (read, write), ClientSession(read, write) as session:
        await session.initialize()

        async def run(number: int) -> None:
            code = f"return {number} + (await kit.echo({{text: '1'}})).content.length"
            ran = await session.call_tool("execute", {"code": code})
            assert not ran.is_error and ran.structured_content["value"] == number + 1, ran

        for number in range(FIRST):
            await run(number)
        before = athena("daemon", "status")
        living = len(children(before["pid"]))
        for number in range(RUNS):
            await run(number)
        after = athena("daemon", "status")
        assert after["pid"] == before["pid"], "another daemon took its place"
        resident = [status["status"]["resident_bytes"] for status in (before, after)]
        print(f"{resident[0] >> 20} MiB before, {resident[1] >> 20} MiB after {RUNS} runs")
        assert resident[1] < resident[0] + GROWTH_MAX, resident

        # The pool may be renewing itself just now; a process that stays is another thing.
        deadline = time.monotonic() + 60
        while True:
            now = children(after["pid"])
            if len(now) <= living + 2 and all(state != "Z" for _, state in now):
                break
            assert time.monotonic() < deadline, f"left over: {now}, of {living} before"
            await asyncio.sleep(0.1)


asyncio.run(main())

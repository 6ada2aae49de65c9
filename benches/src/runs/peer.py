"""The peer: FastMCP's code mode over stdio, with one MCP server behind it (the command line it is given)."""

import sys

from fastmcp.experimental.transforms.code_mode import CodeMode
from fastmcp.server import create_proxy

command, *arguments = sys.argv[1:]
server = create_proxy({"mcpServers": {"documents": {"command": command, "args": arguments}}})
server.add_transform(CodeMode())
server.run(show_banner=False, log_level="ERROR")

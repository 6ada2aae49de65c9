"""An MCP server over streamable HTTP that misbehaves on purpose. Standard library only; protocol 2025-11-25, or 2026-07-28 alone.

    hostile_http.py [--malformed] [--events] [--modern]

Prints its port, then the port of a second server that a redirect leads to; a line `visited` when somebody comes there. Its tools
misbehave when called; with --malformed, so does its list of them. With --events, what it answers well comes as events.
"""
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MALFORMED, EVENTS, MODERN = "--malformed" in sys.argv, "--events" in sys.argv, "--modern" in sys.argv
NAMES = ["echo", "endless_body", "endless_line", "endless_events", "slow_headers", "no_answer", "elsewhere", "as_get", "around",
         "html", "garbage", "another", "empty", "late", "big_body", "big_event"]
BYTES = 100 << 20


class Elsewhere(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        print("visited", flush=True)
        self.send_response(404)
        self.end_headers()

    do_POST = do_GET


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def answer(self, request, result):
        if MODERN:
            result = {"resultType": "complete", **result}
        data = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
        if EVENTS:
            data = b"event: message\ndata: " + data + b"\n\n"
        self.head(200, Content_Type="text/event-stream" if EVENTS else "application/json", Content_Length=len(data))
        self.wfile.write(data)

    def large(self, kind, request, before, after):
        """A hundred megabytes of text, without having them."""
        self.head(200, Content_Type=kind, Transfer_Encoding="chunked")
        begin, end = '{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"', '"}]},"id":%s}' % json.dumps(request["id"])
        self.chunk(before + begin.encode())
        for _ in range(BYTES >> 16):
            self.chunk(b"0123456789abcdef" * 4096)
        self.chunk(end.encode() + after)
        self.chunk(b"")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def chunks(self, kind, first, piece):
        """For ever, or until the other side has had enough."""
        self.head(200, Content_Type=kind, Transfer_Encoding="chunked")
        self.chunk(first)
        while True:
            self.chunk(piece)

    def do_GET(self):
        self.head(405, Content_Length=0)

    def do_DELETE(self):
        self.head(200, Content_Length=0)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        method = request.get("method")
        if "id" not in request:
            self.head(202, Content_Length=0)
        elif method == "server/discover" and MODERN:
            self.answer(request, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"})
        elif method == "initialize" and not MODERN:
            self.answer(request, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "hostile", "version": "1"}})
        elif method == "tools/list":
            tools = [{"name": name, "description": "Does it.", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}} for name in NAMES]
            if MALFORMED:
                tools[1:1] = [{"name": "worse", "inputSchema": "a string", "annotations": 7}, 7]
            self.answer(request, {"tools": tools, **({"ttlMs": 0, "cacheScope": "private"} if MODERN else {})})
        elif method == "tools/call":
            try:
                self.call(request, request["params"]["name"])
            except OSError:
                self.close_connection = True
        else:
            data = json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "Method not found"}}).encode()
            self.head(200, Content_Type="application/json", Content_Length=len(data))
            self.wfile.write(data)

    def call(self, request, name):
        result = {"content": [{"type": "text", "text": "here"}]}
        head = b'{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"' % json.dumps(request["id"]).encode()
        if name == "endless_body":
            self.chunks("application/json", head, b"x" * 65536)
        elif name == "endless_line":
            self.chunks("text/event-stream", b"data: " + head, b"x" * 65536)
        elif name == "endless_events":
            event = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}})
            self.chunks("text/event-stream", b": begun\n\n", f"event: message\ndata: {event}\n\n".encode() * 100)
        elif name == "big_body":
            self.large("application/json", request, b"", b"")
        elif name == "big_event":
            self.large("text/event-stream", request, b": begun\n\nid: 1\ndata: ", b"\n\n")
        elif name == "slow_headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                self.wfile.write(b"X-A: a\r\n")
                self.wfile.flush()
                time.sleep(0.05)
        elif name == "no_answer":
            while self.rfile.read(1):
                pass
        elif name == "elsewhere":
            self.head(307, Location=f"http://127.0.0.1:{elsewhere.server_port}/mcp", Content_Length=0)
        elif name == "as_get":
            self.head(302, Location="/mcp", Content_Length=0)
        elif name == "around":
            self.head(307, Location="/mcp", Content_Length=0)
        elif name == "html":
            data = b"<html><script>alert(1)</script></html>"
            self.head(200, Content_Type="text/html", Content_Length=len(data))
            self.wfile.write(data)
        elif name == "garbage":
            self.head(200, Content_Type="application/json", Content_Length=5)
            self.wfile.write(b"\x00\xff{]\n")
        elif name == "another":
            self.answer({"id": 999999}, result)
        elif name == "empty":
            self.head(200, Content_Length=0)
        elif name == "late":
            self.head(503, Retry_After="9" * 100, Content_Type="text/plain", Content_Length=4)
            self.wfile.write(b"busy")
        else:
            self.answer(request, result)


server, elsewhere = ThreadingHTTPServer(("127.0.0.1", 0), Handler), ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
print(server.server_port, flush=True)
print(elsewhere.server_port, flush=True)
threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
server.serve_forever()

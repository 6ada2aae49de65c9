"""An MCP server over streamable HTTP that asks for OAuth, and the authorization server it names, in one process.

    oauth.py FOLDER

Prints its port. `FOLDER/revoke` makes every access token given so far invalid, once; `FOLDER/grants` lists what the token endpoint gave,
a line each; `FOLDER/no_refresh` makes it refuse to renew; with `FOLDER/confidential`, a client that registers is given a secret, without
which the token endpoint gives nothing.
"""
import base64
import hashlib
import json
import os
import secrets
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote_plus, urlencode, urlparse

FOLDER = sys.argv[1]
CODES, VALID, RENEWALS, CLIENTS, SECRETS = {}, set(), set(), {}, {}


def confidential():
    return os.path.exists(f"{FOLDER}/confidential")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, status, body=None, **headers):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        url = urlparse(self.path)
        if url.path.startswith("/.well-known/oauth-protected-resource"):
            self.answer(200, {"resource": f"{self.base}/mcp", "authorization_servers": [self.base], "scopes_supported": ["read"]})
        elif url.path == "/.well-known/oauth-authorization-server":
            self.answer(200, {
                "issuer": self.base, "authorization_endpoint": f"{self.base}/authorize", "token_endpoint": f"{self.base}/token",
                "registration_endpoint": f"{self.base}/register", "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"], "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"] if confidential() else ["none"], "scopes_supported": ["read"],
                "authorization_response_iss_parameter_supported": True})
        elif url.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            known = CLIENTS.get(asked.get("client_id"), [])
            if asked.get("redirect_uri") not in known or asked.get("code_challenge_method") != "S256":
                return self.answer(400, {"error": "invalid_request"})
            code = secrets.token_urlsafe(24)
            CODES[code] = asked
            query = urlencode({"code": code, "state": asked["state"], "iss": self.base})
            self.answer(302, Location=f"{asked['redirect_uri']}?{query}")
        else:
            self.answer(405 if url.path == "/mcp" else 404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/register":
            asked = json.loads(body)
            client = f"client-{len(CLIENTS) + 1}"
            CLIENTS[client] = asked["redirect_uris"]
            given = {"token_endpoint_auth_method": "none"}
            if confidential():
                SECRETS[client] = "client-secret-" + secrets.token_urlsafe(24)
                given = {"token_endpoint_auth_method": "client_secret_basic", "client_secret": SECRETS[client]}
                with open(f"{FOLDER}/secrets", "a") as file:
                    file.write(f"{SECRETS[client]}\n")
            self.answer(201, {"client_id": client, "redirect_uris": asked["redirect_uris"], **given})
        elif self.path == "/token":
            self.token({name: values[0] for name, values in parse_qs(body.decode()).items()})
        elif self.path == "/mcp":
            self.mcp(json.loads(body))
        else:
            self.answer(404)

    def do_DELETE(self):
        self.answer(200)

    def token(self, asked):
        grant = asked.get("grant_type")
        if confidential():
            pair = base64.b64decode((self.headers.get("Authorization") or "").removeprefix("Basic ")).decode().partition(":")
            if SECRETS.get(unquote_plus(pair[0])) != unquote_plus(pair[2]) or not pair[2]:
                return self.answer(401, {"error": "invalid_client"})
        if grant == "authorization_code":
            code = CODES.pop(asked.get("code"), None)
            digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
            fits = code and base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == code["code_challenge"]
            if not fits or asked.get("redirect_uri") != code["redirect_uri"] or asked.get("resource") != f"{self.base}/mcp":
                return self.answer(400, {"error": "invalid_grant"})
        elif grant != "refresh_token" or asked.get("refresh_token") not in RENEWALS or os.path.exists(f"{FOLDER}/no_refresh"):
            return self.answer(400, {"error": "invalid_grant"})
        access, renewal = "access-" + secrets.token_urlsafe(24), "renewal-" + secrets.token_urlsafe(24)
        VALID.add(access), RENEWALS.add(renewal)
        with open(f"{FOLDER}/grants", "a") as file:
            file.write(f"{grant}\n")
        with open(f"{FOLDER}/secrets", "a") as file:
            file.write(f"{access}\n{renewal}\n")
        self.answer(200, {"access_token": access, "token_type": "Bearer", "expires_in": 3600, "refresh_token": renewal, "scope": "read"})

    def mcp(self, request):
        if os.path.exists(f"{FOLDER}/revoke"):
            os.remove(f"{FOLDER}/revoke")
            VALID.clear()
        if (self.headers.get("Authorization") or "").removeprefix("Bearer ") not in VALID:
            where = f'Bearer resource_metadata="{self.base}/.well-known/oauth-protected-resource/mcp", scope="read"'
            return self.answer(401, {"error": "invalid_token"}, WWW_Authenticate=where)
        method = request.get("method")
        if "id" not in request:
            return self.answer(202)
        if method == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "guarded", "version": "1"}}
        elif method == "tools/list":
            result = {"tools": [{"name": "whoami", "description": "Says who.", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}]}
        elif method == "tools/call":
            result = {"content": [{"type": "text", "text": "a friend"}]}
        else:
            return self.answer(200, {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "Method not found"}})
        self.answer(200, {"jsonrpc": "2.0", "id": request["id"], "result": result})


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()

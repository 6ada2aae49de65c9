"""An MCP server over stdio that does as it is told and writes down what it is asked. Standard library only.

    mirror.py FOLDER

FOLDER/tools.json    the tools it offers, as `tools/list` answers them
FOLDER/answers.json  what each tool answers, a text by name; a tool that is not in it answers its own arguments
FOLDER/book.jsonl    every call it was made, a line each: {"tool", "arguments"}
"""
import json
import os
import sys

FOLDER = sys.argv[1]


def told(name, missing):
    try:
        with open(os.path.join(FOLDER, name)) as file:
            return json.load(file)
    except OSError:
        return missing


def answer(request):
    method, params = request["method"], request.get("params") or {}
    if method == "initialize":
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "mirror", "version": "1"}}
    if method == "tools/list":
        return {"tools": told("tools.json", [])}
    if method == "tools/call":
        name, arguments = params["name"], params.get("arguments") or {}
        with open(os.path.join(FOLDER, "book.jsonl"), "a") as book:
            book.write(json.dumps({"tool": name, "arguments": arguments}) + "\n")
        text = told("answers.json", {}).get(name, json.dumps(arguments))
        return {"content": [{"type": "text", "text": text}]}
    return None


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    result = answer(request)
    reply = {"jsonrpc": "2.0", "id": request["id"]}
    reply.update({"result": result} if result is not None else {"error": {"code": -32601, "message": "no such method"}})
    print(json.dumps(reply), flush=True)

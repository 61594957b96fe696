"""A web cell: says who it was told the user is, and exactly what reached it. Arguments: PORT NAME KEY_FILE."""

import asyncio
import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path

from aiohttp import WSMsgType, web

PORT, NAME, KEY = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_bytes()
release = asyncio.Event()


def identity(request):
    """The claims of Guichet-Identity when its signature is good, else None."""
    token = request.headers.get("Guichet-Identity", "")
    try:
        head, body, signature = token.split(".")
        pad = lambda part: base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        good = hmac.compare_digest(hmac.new(KEY, f"{head}.{body}".encode(), "sha256").digest(), pad(signature))
        return json.loads(pad(body)) if good else None
    except ValueError:
        return None


async def page(request):
    user = request.headers.get("Remote-User", "nobody")
    return web.Response(
        text=f"<!doctype html><title>Mailbox</title><h1>Mailbox of {user}</h1><p>cell {NAME}</p>", content_type="text/html"
    )


async def echo(request):
    body = await request.read()
    return web.json_response(
        {
            "cell": NAME,
            "method": request.method,
            "target": request.raw_path,
            "headers": [[name.lower(), value] for name, value in request.headers.items()],
            "identity": identity(request),
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        },
        status=207 if request.method == "PROPFIND" else 200,
    )


async def auth_request(_request):
    """What a Zimbra answers to a PreAuth, for everybody."""
    token = {"_content": f"0_auth-token-of-cell-{NAME}-5f1e"}
    return web.json_response({"Body": {"AuthResponse": {"lifetime": 3600000, "authToken": [token]}}})


async def upload(request):
    digest, total = hashlib.sha256(), 0
    async for chunk in request.content.iter_any():
        digest.update(chunk)
        total += len(chunk)
    return web.json_response({"bytes": total, "sha256": digest.hexdigest()})


def blocks(total):
    """The same bytes for the same length, not compressible by accident."""
    number = 0
    while total > 0:
        block = hashlib.sha256(number.to_bytes(8, "big")).digest() * 2048
        yield block[:total]
        total -= len(block)
        number += 1


async def download(request):
    total = int(request.query["bytes"])
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    if "chunked" in request.query:
        response.enable_chunked_encoding()
    else:
        response.content_length = total
    await response.prepare(request)
    for block in blocks(total):
        await response.write(block)
    return response


async def digest(request):
    whole = hashlib.sha256()
    for block in blocks(int(request.query["bytes"])):
        whole.update(block)
    return web.Response(text=whole.hexdigest())


async def trickle(request):
    """Sends one line, and the next only when /release was asked for: only a gateway that streams shows the first."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"first\n")
    await release.wait()
    release.clear()
    await response.write(b"second\n")
    return response


async def let_go(_request):
    release.set()
    return web.Response(text="released")


async def impolite(_request):
    """Headers a cell must not be able to show to users."""
    response = web.Response(text="impolite")
    response.headers["Remote-User"] = "leaked@cell.test"
    response.headers["Guichet-Identity"] = "leaked"
    response.headers["Proxy-Authenticate"] = "Basic"
    response.headers["Connection"] = "X-Hop"
    response.headers["X-Hop"] = "1"
    response.headers["X-Kept"] = "1"
    return response


async def socket(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.send_str("hello " + request.headers.get("Remote-User", "nobody"))
    async for message in ws:
        if message.type == WSMsgType.TEXT:
            await ws.send_str(message.data.upper())
        elif message.type == WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


app = web.Application(client_max_size=1 << 30)
app.router.add_get("/ws", socket)
app.router.add_post("/service/soap/AuthRequest", auth_request)
app.router.add_post("/upload", upload)
app.router.add_put("/upload", upload)
app.router.add_get("/download", download)
app.router.add_get("/digest", digest)
app.router.add_get("/trickle", trickle)
app.router.add_get("/release", let_go)
app.router.add_get("/impolite", impolite)
app.router.add_get("/", page)
app.router.add_route("*", "/{rest:.*}", echo)
web.run_app(app, host="127.0.0.1", port=PORT, print=None, access_log=None)

"""A small issuer of tokens, run as a process of its own: its discovery document, and the keys that a file holds now."""

import json
import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route


async def discovery(request: Request) -> Response:
    url = os.environ["ISSUER"]
    return JSONResponse({"issuer": url, "jwks_uri": f"{url}/keys"})


async def keys(request: Request) -> Response:
    seen = Path(os.environ["KEYS"]).with_suffix(".seen")
    seen.write_text(str(int(seen.read_text() or "0") + 1) if seen.exists() else "1")
    return JSONResponse(json.loads(Path(os.environ["KEYS"]).read_text()))


async def mismatched(request: Request) -> Response:
    return JSONResponse({"issuer": "https://elsewhere.example", "jwks_uri": f"{os.environ['ISSUER']}/keys"})


async def moved(request: Request) -> Response:
    return RedirectResponse(os.environ["ISSUER"] + "/.well-known/openid-configuration")


async def long(request: Request) -> Response:
    return Response(b"[" * 300_000, media_type="application/json")


async def insecure(request: Request) -> Response:
    return JSONResponse({"issuer": os.environ["ISSUER"] + "/insecure", "jwks_uri": "http://keys.example/keys"})


_KNOWN = "/.well-known/openid-configuration"
app = Starlette(
    routes=[
        Route(_KNOWN, discovery), Route("/keys", keys), Route("/mismatched" + _KNOWN, mismatched),
        Route("/moved" + _KNOWN, moved), Route("/long" + _KNOWN, long), Route("/insecure" + _KNOWN, insecure),
    ]
)  # fmt: skip

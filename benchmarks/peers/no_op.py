"""Two endpoints that read the body and answer, and keep nothing: what HTTP alone costs."""

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def _read(request):
    await request.body()
    return JSONResponse({"status": "accepted"})


starlette = Starlette(routes=[Route("/callbacks", _read, methods=["POST"])])


_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"21")],
}
_BODY = {"type": "http.response.body", "body": b'{"status":"accepted"}'}


async def raw(scope, receive, send):
    """Answer as an ASGI application without any framework."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body", False):
        pass
    await send(_START)
    await send(_BODY)

"""An endpoint that reads the body and answers, and keeps nothing: what HTTP alone costs."""

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def _read(request):
    await request.body()
    return JSONResponse({"status": "accepted"})


starlette = Starlette(routes=[Route("/callbacks", _read, methods=["POST"])])

"""The merged OpenAPI document, which `/docs` reads."""

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.app.wiring import Dependencies

PATH = "/openapi.json"


def serve_merged_openapi(app: FastAPI) -> None:
    """Answer `/openapi.json` with the document of the whole API instead of the gateway's own."""

    async def openapi(request: Request) -> JSONResponse:
        deps: Dependencies = request.state.deps
        return JSONResponse(await deps.openapi.document(app.openapi))

    app.router.routes[:] = [
        Route(PATH, openapi) if getattr(route, "path", None) == PATH else route
        for route in app.router.routes
    ]

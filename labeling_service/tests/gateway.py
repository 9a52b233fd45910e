"""The fake of the other services behind a real address, so that the real client is used."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI

from labeling_service.tests.support import FakeGateway
from shared.models.data import (
    DatasetManifest,
    DatasetVersionCreate,
    DatasetVersionView,
    ImagePage,
    ProjectView,
    Split,
)
from shared.models.registry import AliasView, ModelView
from shared.service import create_service
from shared.settings import Settings
from shared.tests.ports import free_ports


@contextmanager
def serve_gateway(gateway: FakeGateway) -> Iterator[str]:
    """Serve `gateway` on a free port of loopback and yield its address."""
    port = free_ports(1)[0]
    config = uvicorn.Config(_app(gateway), port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)


@asynccontextmanager
async def _nothing(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    del app
    yield {}


def _app(gateway: FakeGateway) -> FastAPI:
    router = APIRouter(prefix="/v1/projects/{project}")

    @router.get("")
    def get_project(project: str) -> ProjectView:
        return gateway.project(project)

    @router.get("/aliases")
    def get_aliases(project: str) -> AliasView:
        return gateway.aliases(project)

    @router.get("/models/{version}")
    def get_model(project: str, version: int) -> ModelView:
        return gateway.model(project, version)

    @router.get("/images")
    def get_images(
        project: str, split: Split | None = None, labelled: bool | None = None
    ) -> ImagePage:
        images = tuple(gateway.iter_images(project, split=split, labelled=labelled))
        return ImagePage(images=images, next_cursor=None)

    @router.get("/dataset-versions/{version}")
    def get_version(project: str, version: int) -> DatasetVersionView:
        return gateway.dataset_version(project, version)

    @router.get("/dataset-versions/{version}/manifest")
    def get_manifest(project: str, version: int) -> DatasetManifest:
        return gateway.manifest(project, version)

    @router.post("/dataset-versions")
    def post_version(project: str, version: DatasetVersionCreate) -> DatasetVersionView:
        return gateway.create_dataset_version(project, version)

    return create_service(
        "gateway",
        settings=Settings(),
        routers=[router],
        lifespan=_nothing,
        checks=lambda state: {},
        internal=False,
    )

"""A small gateway over a made-up project in memory, for what the pages show."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from dashboard.tests.world import (
    CLASSES,
    HEIGHT,
    NAME,
    START,
    WIDTH,
    World,
    detections,
    drift_report,
    job,
    manifest_item,
    map_of,
    picture,
    round_view,
)
from shared.errors import AppError, Conflict, NotFound, Unauthorised
from shared.models.data import (
    DatasetManifest,
    DatasetVersionView,
    ImagePage,
    ImageView,
)
from shared.models.jobs import JobView
from shared.models.registry import (
    AliasView,
    ImagePredictions,
    ModelView,
    Prediction,
    ScoredBox,
)
from shared.models.rounds import (
    AnswerCreate,
    LeaseCreate,
    RoundCreate,
    RoundPlan,
    RoundView,
    TaskView,
)
from shared.models.search import (
    DuplicateGroups,
    EmbeddingMap,
    MapCreate,
    SimilarImage,
    SimilarImages,
    SimilarObject,
    SimilarObjects,
)

KEY = "a-key"


@contextmanager
def serve(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Yield the address of an app on a socket of its own; port 0 picks a free one."""
    config = uvicorn.Config(app, port=port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def gateway_app(world: World) -> FastAPI:
    """Return the neighbour: the routes that the dashboard asks for."""
    app = FastAPI()
    app.add_exception_handler(AppError, _error)
    _add_reads(app, world)
    _add_likeness(app, world)
    _add_overviews(app, world)
    _add_media(app, world)
    _add_labelling(app, world)
    _add_actions(app, world)

    @app.middleware("http")
    async def check_key(request: Request, call_next: Any) -> Response:
        world.calls.append(f"{request.method} {request.url.path}")
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return await _error(request, Unauthorised("unknown API key"))
        response: Response = await call_next(request)
        return response

    return app


async def _error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, AppError)
    body = {"error": exc.name, "detail": str(exc), "request_id": "r"}
    return JSONResponse(body, status_code=exc.status)


def _add_reads(app: FastAPI, world: World) -> None:
    base = f"/v1/projects/{NAME}"
    app.get("/v1/projects")(lambda: world.projects)
    app.get(base)(lambda: world.projects[0])
    app.get(base + "/rounds")(lambda: world.rounds)
    app.get(base + "/aliases")(lambda: world.aliases)
    app.get(base + "/drift-reports")(lambda: world.drift)
    app.get(base + "/simulations")(lambda: world.simulations)
    app.get("/v1/jobs")(lambda: world.jobs)

    @app.get(base + "/rounds/{round_id}")
    def one_round(round_id: str) -> RoundView:
        return next(r for r in world.rounds if r.id == round_id)

    @app.get(base + "/dataset-versions")
    def versions() -> list[DatasetVersionView]:
        return [version(v) for v in range(1, (world.projects[0].latest_version or 0) + 1)]

    @app.get(base + "/dataset-versions/{number}")
    def version(number: int) -> DatasetVersionView:
        return DatasetVersionView(
            project=NAME,
            version=number,
            content_hash=f"{number:064x}",
            parent=None,
            round_id=f"round-{number}",
            manifest_key="m",
            n_images={"train": 10 * number, "val": 6, "gate": 6, "test": 6},
            n_boxes={"train": 17 * number, "val": 12, "gate": 11, "test": 13},
            created_at=START,
        )

    @app.get(base + "/dataset-versions/{number}/manifest")
    def manifest(number: int) -> DatasetManifest:
        labelled = [i for i in world.images if i.labelled]
        return DatasetManifest(
            project=NAME, classes=CLASSES, items=tuple(manifest_item(i) for i in labelled)
        )

    @app.get(base + "/models/{number}")
    def model(number: int) -> ModelView:
        return ModelView(
            project=NAME,
            version=number,
            aliases=(),
            dataset_version=number,
            round_id=f"round-{number}",
            classes=CLASSES,
            metrics={"test.map50": 0.5},
            weights_sha256="0" * 64,
            run_id="run",
            run_url="http://127.0.0.1:5000/#/experiments/1/runs/run",
            created_at=START,
        )


def _add_likeness(app: FastAPI, world: World) -> None:
    base = f"/v1/projects/{NAME}"

    def near(k: int, image_id: str = "") -> SimilarImages:
        if not world.aliases.production:
            msg = "nothing is indexed: score images first (`fovea score`)"
            raise Conflict(msg)
        found = [i for i in world.images if i.id != image_id][:k]
        images = tuple(
            SimilarImage(image_id=image.id, split=image.split, distance=n / 100)
            for n, image in enumerate(found)
        )
        return SimilarImages(model_version=2, n_searched=60, images=images)

    def objects(k: int, image_id: str = "") -> SimilarObjects:
        found = tuple(
            SimilarObject(
                **image.model_dump(), box=0, class_id=1, score=0.9, xyxy=(0.1, 0.2, 0.4, 0.6)
            )
            for image in near(k, image_id).images
        )
        return SimilarObjects(model_version=2, n_searched=120, objects=found)

    @app.post(base + "/similar-images")
    def images_like(k: int) -> SimilarImages:
        return near(k)

    @app.post(base + "/similar-objects")
    def objects_like(k: int, xyxy: str) -> SimilarObjects:
        world.calls.append(f"region {xyxy}")
        return objects(k)

    @app.get(base + "/similar-images/{image_id}")
    def similar_images(image_id: str, k: int) -> SimilarImages:
        return near(k, image_id)

    @app.get(base + "/similar-objects/{image_id}")
    def similar_objects(image_id: str, box: int, k: int) -> SimilarObjects:
        world.calls.append(f"box {box}")
        return objects(k, image_id)


def _add_overviews(app: FastAPI, world: World) -> None:
    base = f"/v1/projects/{NAME}"

    @app.post(base + "/maps", status_code=202)
    def make_map(request: MapCreate) -> JobView:
        if world.refuse_maps:
            raise Conflict(world.refuse_maps)
        world.map = map_of(world.images, request.method)
        return job("inference.map", 0.5, "laying 60 images out")

    @app.get(base + "/maps/newest")
    def newest_map() -> EmbeddingMap:
        if world.map is None:
            msg = "project 'scenes' has no map yet"
            raise NotFound(msg)
        return world.map

    @app.get(base + "/duplicate-groups")
    def duplicate_groups(cursor: str | None = None, limit: int = 100) -> DuplicateGroups:
        groups = [g for g in world.duplicates if g.name > (cursor or "")]
        more = len(groups) > limit
        return DuplicateGroups(
            groups=tuple(groups[:limit]), next_cursor=groups[limit - 1].name if more else None
        )


def _add_media(app: FastAPI, world: World) -> None:
    base = f"/v1/projects/{NAME}"

    @app.get(base + "/images")
    def images(
        split: str | None = None,
        labelled: bool | None = None,
        cursor: str | None = None,
        limit: int = 100,
        name: str | None = None,
    ) -> ImagePage:
        fits = [
            i
            for i in world.images
            if split in {None, i.split}
            and labelled in {None, i.labelled}
            and (name or "") in i.name
            and i.id > (cursor or "")
        ]
        more = len(fits) > limit
        return ImagePage(
            images=tuple(fits[:limit]), next_cursor=fits[limit - 1].id if more else None
        )

    @app.get(base + "/images/{image_id}")
    def one_image(image_id: str) -> ImageView:
        return next(i for i in world.images if i.id == image_id)

    @app.get(base + "/images/{image_id}/{kind}")
    def content(image_id: str, kind: str) -> Response:
        return Response(picture(image_id), media_type="image/jpeg")

    @app.get(base + "/predictions/{image_id}")
    def stored(image_id: str) -> ImagePredictions:
        if world.aliases.production is None:
            msg = f"project {NAME!r} has no production model"
            raise Conflict(msg)
        return ImagePredictions(
            image_id=image_id,
            model_version=2,
            split="train",
            detections=tuple(
                ScoredBox(
                    **box.model_dump(),
                    entropy=0.5,
                    margin=0.3,
                    certainty=0.6,
                    bald=0.1,
                    variance=0.02,
                    localisation=0.1,
                )
                for box in detections()
            ),
            brightness=0.5,
            contrast=0.2,
            sharpness=300.0,
        )

    @app.get(base + "/drift-reports/{report_id}/html")
    def report(report_id: str) -> Response:
        body = f"<html><body><h1>Data drift</h1><p>{report_id}</p></body></html>"
        return Response(body, media_type="text/html")


def _add_labelling(app: FastAPI, world: World) -> None:
    base = f"/v1/projects/{NAME}"

    @app.post(base + "/leases")
    def lease(request: LeaseCreate) -> TaskView:
        for i, task in enumerate(world.tasks):
            mine = task.state == "leased" and task.annotator == request.annotator
            if task.state == "open" or mine:
                world.tasks[i] = task.model_copy(
                    update={"state": "leased", "annotator": request.annotator}
                )
                return world.tasks[i]
        msg = f"no open task in project {NAME!r}"
        raise NotFound(msg)

    @app.put(base + "/tasks/{task_id}/answer")
    def answer(task_id: str, request: AnswerCreate) -> TaskView:
        if world.refuse_answers:
            raise Conflict(world.refuse_answers)
        world.answers.append((task_id, request))
        i = next(i for i, t in enumerate(world.tasks) if t.id == task_id)
        world.tasks[i] = world.tasks[i].model_copy(
            update={"state": request.outcome, "annotations": request.annotations}
        )
        view = world.rounds[-1]
        world.rounds[-1] = view.model_copy(update={"n_done": view.n_done + 1})
        return world.tasks[i]


def _add_actions(app: FastAPI, world: World) -> None:
    base = f"/v1/projects/{NAME}"

    @app.post(base + "/rounds", status_code=201)
    def create(request: RoundCreate) -> RoundView:
        index = len(world.rounds) + 1
        view = round_view(index, "scoring").model_copy(
            update={"request": RoundPlan.model_validate(dict(request))}
        )
        world.rounds.append(view)
        return view

    @app.post(base + "/rounds/{round_id}/cancellation")
    def cancel(round_id: str) -> RoundView:
        world.rounds[-1] = world.rounds[-1].model_copy(update={"state": "cancelled"})
        return world.rounds[-1]

    @app.post(base + "/rollbacks")
    def rollback() -> AliasView:
        world.aliases = AliasView(project=NAME, production=world.aliases.previous, previous=None)
        return world.aliases

    @app.post(base + "/predict")
    async def predict(request: Request) -> Prediction:
        await request.body()
        return Prediction(
            prediction_id="p",
            image_id="0" * 64,
            project=NAME,
            model_version=2,
            calibrated=True,
            width=WIDTH,
            height=HEIGHT,
            detections=detections(),
            seconds=0.043,
        )

    @app.post(base + "/drift-reports", status_code=202)
    def make_report() -> JobView:
        world.drift.append(drift_report("made-now", "brightness"))
        return job("evidently.report", 0.5, "comparing")

    @app.get("/v1/jobs/{job_id}")
    def one_job(job_id: str) -> JobView:
        return job("evidently.report", 1.0, "").model_copy(update={"state": "succeeded"})

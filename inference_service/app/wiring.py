"""Builds what the service and its worker need; the only module that names adapters."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inference_service.app.core.body_budget import BodyBudget
from inference_service.app.core.images import MAX_IMAGE_BYTES
from inference_service.app.core.in_flight import InFlight
from inference_service.app.core.pixel_budget import PixelBudget
from inference_service.app.core.ports import Gateway, Registry
from inference_service.app.core.runtime import DetectorRuntime
from inference_service.app.services.batch_answers import BatchAnswerer
from inference_service.app.services.batches import Batches
from inference_service.app.services.embedding_map import EmbeddingMaps
from inference_service.app.services.index import Index
from inference_service.app.services.loaded import LoadedModel
from inference_service.app.services.local_models import LocalModels
from inference_service.app.services.model_worker import THREADS
from inference_service.app.services.prediction import Predictor
from inference_service.app.services.scoring import SCORERS, Scorer
from inference_service.app.services.search import Search
from inference_service.app.services.served_log import ServedLog
from inference_service.app.services.serving import Serving
from inference_service.app.services.stored import StoredPredictions
from shared.client import GatewayClient
from shared.database import Database
from shared.detector.info import GraphInfo, read_any
from shared.fetch import Fetcher
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.objects.port import ObjectStore
from shared.objects.wiring import object_store
from shared.served import FLUSH_S
from shared.service import Check
from shared.settings import Settings
from shared.vectors.port import VectorStore
from shared.vectors.wiring import vector_store

# Requests; eight batches, about two seconds on a small machine.
MAX_IN_FLIGHT = 64
# Of their files, together.
MAX_BODY_BYTES = 4 * MAX_IMAGE_BYTES


@dataclass(frozen=True)
class Neighbours:
    """The other parts of the system that this service asks."""

    gateway: Gateway
    registry: Registry


@dataclass(frozen=True)
class Dependencies:
    """Everything that a request may need."""

    settings: Settings
    database: Database
    bell: Bell
    jobs: JobStore
    store: ObjectStore
    vectors: VectorStore
    neighbours: Neighbours
    serving: Serving
    predictor: Predictor
    stored: StoredPredictions
    search: Search
    maps: EmbeddingMaps
    batches: Batches
    in_flight: InFlight
    bodies: BodyBudget

    def checks(self) -> Mapping[str, Check]:
        """Return the back ends that must answer; the registry is not one, local copies serve."""
        return {
            "database": self.database.check,
            "broker": self.bell.check,
            "object_store": self.store.check,
            "vector_store": self.vectors.check,
        }

    def start(self) -> None:
        """Start looking for models and writing the log."""
        self.predictor.served_log.start(FLUSH_S)
        self.serving.start(self.settings.model_poll_s)

    def close(self) -> None:
        """Answer what waits, write what is spooled, close every connection."""
        self.serving.close()
        self.predictor.served_log.close()
        self.predictor.fetcher.close()
        self.bell.close()
        self.database.close()


@dataclass(frozen=True)
class WorkerParts:
    """Everything that a task may need."""

    scorer: Scorer
    answerer: BatchAnswerer
    stored: StoredPredictions
    index: Index
    maps: EmbeddingMaps
    loaded: LoadedModel


def neighbours(settings: Settings) -> Neighbours:
    """Return the real gateway and registry; nothing is asked of them yet."""
    # MLflow's client takes a second to import.
    from shared.registry import ModelRegistry

    return Neighbours(
        gateway=GatewayClient(settings.gateway_url, settings.service_key),
        registry=ModelRegistry(settings.mlflow_url),
    )


def build(settings: Settings, given: Neighbours | None = None) -> Dependencies:
    """Return the API's parts; nothing is connected before the first use."""
    around = given or neighbours(settings)
    database = Database(settings.database_url)
    bell = Bell(make_celery(settings))
    store, vectors = object_store(settings), vector_store(settings)
    models = LocalModels(around.registry, settings.cache_dir / "models")

    def load(folder: Path) -> DetectorRuntime:
        return _load(settings, folder, askers=THREADS, waited_for=True)

    serving = Serving(around.registry, around.gateway, models, load)
    served_log = ServedLog(settings.state_dir / "served", store)
    fetcher = _fetcher(settings)
    pixels = PixelBudget(settings.max_image_megapixels * 1e6)
    jobs = JobStore(database, bell, settings)
    predictor = Predictor(serving, served_log, around.gateway, store, fetcher, pixels)
    stored = StoredPredictions(store)
    return Dependencies(
        settings=settings,
        database=database,
        bell=bell,
        jobs=jobs,
        store=store,
        vectors=vectors,
        neighbours=around,
        serving=serving,
        predictor=predictor,
        stored=stored,
        search=Search(stored, vectors, predictor),
        maps=_maps(settings, store, stored),
        batches=Batches(store, jobs, around.registry),
        in_flight=InFlight(MAX_IN_FLIGHT),
        bodies=BodyBudget(MAX_BODY_BYTES),
    )


def build_worker(settings: Settings, given: Neighbours | None = None) -> WorkerParts:
    """Return the worker's parts; nothing is connected before the first use."""
    around = given or neighbours(settings)
    store, vectors = object_store(settings), vector_store(settings)
    loaded = LoadedModel(
        # Apart from the API's copies, which another process replaces.
        LocalModels(around.registry, settings.cache_dir / "scoring-models"),
        load=lambda folder: _load(settings, folder, askers=SCORERS),
        load_base=lambda: _load_base(settings),
    )
    max_pixels = settings.max_image_megapixels * 1e6
    fetcher = _fetcher(settings)
    index, stored = Index(vectors), StoredPredictions(store)
    scorer = Scorer(around.gateway, store, index, loaded, max_pixels)
    answerer = BatchAnswerer(around.gateway, around.registry, store, loaded, fetcher, max_pixels)
    maps = _maps(settings, store, stored)
    return WorkerParts(scorer, answerer, stored, index, maps, loaded)


def _maps(settings: Settings, store: ObjectStore, stored: StoredPredictions) -> EmbeddingMaps:
    return EmbeddingMaps(store, stored, settings.cache_dir / "numba")


def _fetcher(settings: Settings) -> Fetcher:
    limit = min(settings.max_upload_mb << 20, MAX_IMAGE_BYTES)
    return Fetcher(limit, settings.private_hosts, settings.fetch_rate_per_s)


def _load(
    settings: Settings, folder: Path, *, askers: int, waited_for: bool = False
) -> DetectorRuntime:
    info = read_any(folder)
    if isinstance(info, GraphInfo):
        # Without a line of Ultralytics.
        from inference_service.app.core.graph_detector import GraphDetector

        return GraphDetector(folder, info, settings.threads)
    from inference_service.app.core.engines import Engines
    from inference_service.app.core.loading import RuntimeOptions

    options = RuntimeOptions(settings.threads, askers=askers, waited_for=waited_for)
    return Engines(settings.cache_dir / "engines.json", options, settings.engine).load(folder)


def _load_base(settings: Settings) -> DetectorRuntime:
    from inference_service.app.core.loading import RuntimeOptions, load_base_runtime

    options = RuntimeOptions(threads=settings.threads)
    return load_base_runtime(settings.base_model, settings.base_models_dir, options)

"""The one place where configuration is read: frozen settings from `FOVEA_*` variables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.bases import DEFAULT_BASE
from shared.cores import usable_cores
from shared.models.registry import Engine

PREFIX = "FOVEA_"
INSECURE_DEFAULT = "insecure-default"
# What surrounds a network has Python's lock: one process does not keep more cores busy.
CORES_OF_A_WORKER = 4
# A gigabyte each while they score; and one at a time writes the index.
MOST_WORKERS = 8
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})

# Read by the tests, the Makefile or compose itself, never by a service.
NOT_SETTINGS = frozenset(
    {
        "FOVEA_BCCD",
        "FOVEA_TEST_WEAVIATE_URL",
        "FOVEA_TEST_S3_URL",
        "FOVEA_TEST_DOCKER",
        "FOVEA_VERSION",
        "FOVEA_BIND",
        "FOVEA_STACK_MEMBER",
    }
)


class Settings(BaseSettings):
    """Everything that may differ between two installations."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    state_dir: Path = Field(default=Path(".fovea"), description="Folder of the embedded stack.")
    host: str = Field(default="127.0.0.1", description="Address that servers listen on.")
    log_format: Literal["console", "json"] = Field(default="console", description="Log lines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line that is written."
    )

    database_url: str = Field(
        default="sqlite:///.fovea/fovea.db", description="SQLAlchemy URL: SQLite or PostgreSQL."
    )
    broker_url: str = Field(
        default="redis://127.0.0.1:6379/0", description="Celery broker: Valkey or Redis."
    )
    object_store_url: str = Field(
        default="file:.fovea/objects", description="`file:FOLDER` or `s3://BUCKET`."
    )
    vector_store_url: str = Field(
        default="lancedb:.fovea/vectors",
        description="`lancedb:FOLDER` or `weaviate://HOST:HTTP_PORT?grpc=PORT`.",
    )
    mlflow_url: str = Field(default="http://127.0.0.1:5000", description="MLflow tracking server.")
    mlflow_public_url: str | None = Field(
        default=None, description="MLflow as browsers reach it; unset means `mlflow_url`."
    )

    s3_endpoint_url: str | None = Field(
        default=None, description="S3 endpoint as services reach it; unset means AWS."
    )
    s3_public_url: str | None = Field(
        default=None, description="S3 endpoint as browsers reach it; unset means the same."
    )
    s3_access_key: SecretStr = Field(default=SecretStr(""), description="S3 access key.")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), description="S3 secret key.")
    s3_region: str = Field(default="us-east-1", description="S3 region.")

    gateway_url: str = Field(
        default="http://127.0.0.1:8000", description="Gateway as services and CLI reach it."
    )
    public_url: str | None = Field(
        default=None, description="Gateway as browsers reach it; unset means `gateway_url`."
    )
    data_url: str = Field(default="http://127.0.0.1:8001", description="data_service.")
    inference_url: str = Field(default="http://127.0.0.1:8002", description="inference_service.")
    labeling_url: str = Field(default="http://127.0.0.1:8003", description="labeling_service.")
    training_url: str = Field(default="http://127.0.0.1:8004", description="training_service.")
    calibration_url: str = Field(
        default="http://127.0.0.1:8005", description="calibration_service."
    )
    evidently_url: str = Field(default="http://127.0.0.1:8006", description="evidently_service.")

    service_key: SecretStr = Field(
        default=SecretStr(INSECURE_DEFAULT),
        description="Secret between gateway and services; at least 32 characters off loopback.",
    )
    signing_key: SecretStr = Field(
        default=SecretStr(INSECURE_DEFAULT),
        description="Secret that signs time-limited addresses of files.",
    )
    api_key: SecretStr | None = Field(
        default=None, description="Key that CLI and dashboard send to the gateway."
    )

    ingest_roots: str = Field(
        default="", description="Folders a server may read paths under, separated by `:`."
    )
    ingest_s3: str = Field(
        default="",
        description="Prefixes (`s3://bucket/prefix`, separated by `,`) that may be ingested from.",
    )
    max_upload_mb: int = Field(default=2048, gt=0, description="Largest upload, MiB.")
    max_image_megapixels: float = Field(default=100.0, gt=0, description="Largest image accepted.")
    request_rate_per_s: float = Field(
        default=200.0, gt=0, description="Requests a second that one key may send."
    )

    fetch_private_hosts: str = Field(
        default="",
        description="Hosts (`host` or `host:port`, separated by `,`) that URLs of images may name "
        "though they lie in a private network.",
    )
    fetch_rate_per_s: float = Field(
        default=20.0, gt=0, description="Requests a second to one host for images given by URL."
    )

    job_heartbeat_s: float = Field(default=2.0, gt=0, description="Between two signs of life.")
    job_stale_s: float = Field(
        default=30.0, gt=0, description="Silence after which a running job is given to another."
    )
    job_max_attempts: int = Field(default=3, gt=0, description="Tries before a job fails.")
    job_wait_s: float = Field(
        default=86_400.0, gt=0, description="How long a job waits for a back end that is down."
    )
    reconcile_interval_s: float = Field(
        default=30.0, gt=0, description="Between two looks of the reaper and round reconciler."
    )
    metrics_port: int = Field(
        default=0, ge=0, description="Port of a worker's `/metrics`; 0 picks a free one."
    )

    base_model: str = Field(
        default=DEFAULT_BASE,
        description="Weights a first training starts from: `fovea-digits`, `scratch`, or "
        "`yolov8n.pt`, which Ultralytics downloads.",
    )
    model_poll_s: float = Field(
        default=2.0, gt=0, description="Between two looks for a newly promoted model."
    )
    engine: Engine | None = Field(
        default=None,
        description="Engine of every model that Fovea trained: `pytorch`, `onnxruntime` or "
        "`openvino`; unset: the fastest, measured at first load.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="Threads of one model; 0 means all cores that the process may use, fewer in "
        "a container with a limit.",
    )
    inference_processes: int = Field(
        default=1,
        ge=1,
        description="Processes of the inference API on one machine, behind its one port; the cores "
        "are divided among them.",
    )
    inference_workers: int = Field(
        default=0,
        ge=0,
        description="Inference workers of one machine; the cores are divided among them. 0: one "
        "for every four cores, at most 8, or one alone where `FOVEA_THREADS` is set; compose "
        "needs 1 or more.",
    )

    @field_validator("engine", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None

    @model_validator(mode="after")
    def _no_default_secret_off_loopback(self) -> Self:
        exposed = [name for name, url in self._backend_urls().items() if not is_embedded(url)]
        if self.host not in LOOPBACK_HOSTS:
            exposed.append("host")
        for name in ("service_key", "signing_key"):
            value: SecretStr = getattr(self, name)
            weak = value.get_secret_value() == INSECURE_DEFAULT or len(value) < 32
            if exposed and weak:
                msg = (
                    f"{PREFIX}{name.upper()} must be set to a secret of at least 32 characters, "
                    f"because {', '.join(exposed)} is not embedded"
                )
                raise ValueError(msg)
        return self

    def _backend_urls(self) -> dict[str, str]:
        names = ("database_url", "broker_url", "object_store_url", "vector_store_url", "mlflow_url")
        return {name: getattr(self, name) for name in names}

    @property
    def n_inference_workers(self) -> int:
        """Return how many inference workers this machine has."""
        cores = 1 if self.threads else usable_cores()
        return self.inference_workers or min(max(1, cores // CORES_OF_A_WORKER), MOST_WORKERS)

    def divided(self, n: int) -> "Settings":
        """Return the settings of one of `n` processes that share the machine.

        Cores, unless threads are given, and rates are divided. What bounds memory is not: each
        process must be able to hold the largest image.
        """
        if n == 1:
            return self
        threads = self.threads or max(1, usable_cores() // n)
        rate = self.fetch_rate_per_s / n
        return self.model_copy(update={"threads": threads, "fetch_rate_per_s": rate})

    @property
    def allowed_ingest_roots(self) -> tuple[Path, ...]:
        """Return the folders under which the server may read paths, resolved."""
        return tuple(Path(p).resolve() for p in self.ingest_roots.split(":") if p)

    @property
    def allowed_s3_prefixes(self) -> tuple[str, ...]:
        """Return the S3 addresses under which the server may read objects."""
        return tuple(part.strip() for part in self.ingest_s3.split(",") if part.strip())

    @property
    def private_hosts(self) -> tuple[str, ...]:
        """Return the private hosts that URLs of images may name."""
        return tuple(host.strip() for host in self.fetch_private_hosts.split(",") if host.strip())

    @property
    def cache_dir(self) -> Path:
        """Return the folder for what can be made again: model copies, data sets."""
        return self.state_dir / "cache"

    @property
    def base_models_dir(self) -> Path:
        """Return the folder of base models that were downloaded."""
        return self.cache_dir / "base-models"


class _Given(Settings):
    """Settings of nothing but what is given: not of this process' environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the one source."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def is_embedded(url: str) -> bool:
    """Tell whether a URL stays on this machine: a file, or a loopback address."""
    parts = urlsplit(url)
    if parts.scheme in {"file", "lancedb"} or parts.scheme.startswith("sqlite"):
        return True
    return parts.hostname in LOOPBACK_HOSTS


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises:
        ValueError: a `FOVEA_*` variable that no setting has (pydantic would ignore a misspelt one),
            a value of the wrong kind, or a default secret beside a back end that is not embedded.
    """
    given = os.environ if environ is None else environ
    known = {PREFIX + name.upper() for name in Settings.model_fields} | NOT_SETTINGS
    unknown = sorted(name for name in given if name.startswith(PREFIX) and name not in known)
    if unknown:
        msg = f"unknown settings: {', '.join(unknown)}"
        raise ValueError(msg)
    if environ is None:
        return Settings()
    values = {
        name: given[PREFIX + name.upper()]
        for name in Settings.model_fields
        if PREFIX + name.upper() in given
    }
    return _Given.model_validate(values)

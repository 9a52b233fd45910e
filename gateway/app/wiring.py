"""What the gateway is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2

from gateway.app.core.routes import service_urls
from gateway.app.services.audit import AuditLog
from gateway.app.services.keys import ApiKeys
from gateway.app.services.limits import RateLimiter
from gateway.app.services.openapi import OpenApi
from gateway.app.services.proxy import Proxy
from shared.database import Database
from shared.errors import BackendUnavailable
from shared.jobs.bell import Bell, make_celery
from shared.jobs.store import JobStore
from shared.service import Check
from shared.settings import Settings


@dataclass(frozen=True)
class Dependencies:
    """Everything that a request may need."""

    settings: Settings
    database: Database
    bell: Bell
    jobs: JobStore
    keys: ApiKeys
    audit: AuditLog
    limiter: RateLimiter
    proxy: Proxy
    openapi: OpenApi

    async def close(self) -> None:
        """Close every connection."""
        await self.proxy.close()
        self.bell.close()
        self.database.close()


def build(settings: Settings) -> Dependencies:
    """Return the gateway's parts; nothing is connected before the first use."""
    database = Database(settings.database_url)
    bell = Bell(make_celery(settings))
    proxy = Proxy(service_urls(settings), settings.service_key)
    return Dependencies(
        settings=settings,
        database=database,
        bell=bell,
        jobs=JobStore(database, bell, settings),
        keys=ApiKeys(database, settings.service_key),
        audit=AuditLog(database),
        limiter=RateLimiter(settings.request_rate_per_s),
        proxy=proxy,
        openapi=OpenApi(proxy),
    )


def checks(state: Mapping[str, Any]) -> dict[str, Check]:
    """Return how each back end is asked for an answer: database, broker and every service."""
    deps: Dependencies = state["deps"]
    services: dict[str, Check] = {
        service: partial(check_service, url) for service, url in service_urls(deps.settings).items()
    }
    return {"database": deps.database.check, "broker": deps.bell.check, **services}


def check_service(url: str) -> None:
    """Ask a service for a sign of life.

    Raises:
        BackendUnavailable: it gives none.
    """
    try:
        httpx2.get(f"{url}/healthz", timeout=2.0, trust_env=False).raise_for_status()
    except httpx2.HTTPError as exc:
        msg = f"{url}: {type(exc).__name__} {exc}".rstrip()
        raise BackendUnavailable(msg) from exc

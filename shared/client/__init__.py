"""The one typed client of the gateway, for services, CLI, dashboard and tests alike."""

from shared.client.batches import BatchCalls
from shared.client.jobs import JobCalls
from shared.client.models import ModelCalls
from shared.client.projects import ProjectCalls
from shared.client.rounds import RoundCalls
from shared.client.search import SearchCalls
from shared.client.serving import ServingCalls
from shared.client.versions import VersionCalls

__all__ = ["GatewayClient"]


class GatewayClient(
    ProjectCalls,
    VersionCalls,
    JobCalls,
    RoundCalls,
    ModelCalls,
    ServingCalls,
    BatchCalls,
    SearchCalls,
):
    """Typed calls of `/v1`; an error body becomes the same exception again.

    Reads are tried again when the gateway does not answer; writes are not, unless the server makes
    them idempotent by a key.
    """

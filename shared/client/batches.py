"""Batches of predictions."""

from pathlib import Path
from typing import Literal

from shared.client.transport import Transport, at
from shared.models.batches import BatchView


class BatchCalls(Transport):
    """Many images to predict, one to a line of a file."""

    def create_batch(
        self,
        project: str,
        lines: Path,
        *,
        model_version: int | None = None,
        expires_in_h: float | None = None,
    ) -> BatchView:
        """Submit a file of JSON lines, each with `image_id`, `url` or `key`."""
        query = {
            "project": project,
            "name": lines.name,
            "model_version": model_version,
            "expires_in_h": expires_in_h,
        }
        with lines.open("rb") as file:
            response = self._send(
                "POST", at("batches"), query=query, files={"file": file}, timeout=600.0
            )
        return BatchView.model_validate_json(response.content)

    def batches(self, project: str | None = None, limit: int = 100) -> list[BatchView]:
        """Return batches, the newest first."""
        return self._get_list(at("batches"), BatchView, {"project": project, "limit": limit})

    def batch(self, batch_id: str) -> BatchView:
        """Return one batch."""
        return self._get(at("batches", batch_id), BatchView)

    def cancel_batch(self, batch_id: str) -> BatchView:
        """Stop a batch; what is answered stays."""
        return self._post(at("batches", batch_id, "cancel"), None, BatchView)

    def resume_batch(self, batch_id: str) -> BatchView:
        """Go on with a batch that failed or was cancelled."""
        return self._post(at("batches", batch_id, "resume"), None, BatchView)

    def batch_output(self, batch_id: str, file: Literal["results", "errors"], target: Path) -> None:
        """Download the result or the error file."""
        self._download(at("batches", batch_id, file), {}, target)

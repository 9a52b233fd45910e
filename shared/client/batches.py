"""Batches of predictions."""

import uuid
from pathlib import Path
from typing import Literal

from shared.client.transport import Transport, at
from shared.errors import BadRequest
from shared.models.batches import BatchView
from shared.models.jobs import JobView


class BatchCalls(Transport):
    """Many images to predict, one to a line of a file."""

    def create_batch(
        self,
        project: str,
        lines: Path,
        *,
        model_version: int | None = None,
        expires_in_h: float | None = None,
        idempotency_key: str | None = None,
    ) -> BatchView:
        """Submit a file of JSON lines, each with `image_id`, `url` or `key`.

        Args:
            project: whose model answers.
            lines: the file; its name becomes the batch's.
            model_version: unset: production's.
            expires_in_h: how long it may take.
            idempotency_key: with the same one, a later call for the same makes no second batch;
                tries within one call never do.

        Raises:
            BadRequest: the key cannot be sent.
        """
        key = uuid.uuid4().hex if idempotency_key is None else idempotency_key
        if not (key.isascii() and key.isprintable()):
            msg = f"no Idempotency-Key: {key!r} has characters that are not printable ASCII"
            raise BadRequest(msg)
        query = {
            "project": project,
            "name": lines.name,
            "model_version": model_version,
            "expires_in_h": expires_in_h,
        }
        with lines.open("rb") as file:
            response = self._send(
                "POST",
                at("batches"),
                query=query,
                idempotent=True,
                files={"file": file},
                headers={"Idempotency-Key": key},
                timeout=600.0,
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

    def delete_batch(self, batch_id: str) -> JobView:
        """Delete a batch that is over, and return the job that deletes its files."""
        return JobView.model_validate_json(self._send("DELETE", at("batches", batch_id)).content)

    def batch_output(self, batch_id: str, file: Literal["results", "errors"], target: Path) -> None:
        """Download the result or the error file."""
        self._download(at("batches", batch_id, file), {}, target)

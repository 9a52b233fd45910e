"""Keys, roles, rates and the audit log, at the running gateway."""

import asyncio
import re
import time
from dataclasses import replace

import pytest
from pydantic import SecretStr

from gateway.app import keys as keys_command
from gateway.app.models.schemas import KeyCreate, Role
from gateway.app.models.tables import ApiKeyRow
from gateway.app.services import audit
from gateway.app.services.limits import RateLimiter
from gateway.tests.conftest import Gateway
from shared.database import Database, utcnow
from shared.jobs.bell import Bell, make_celery
from shared.jobs.retire import retire
from shared.jobs.store import JobStore, JobSubmit
from shared.settings import Settings


@pytest.mark.parametrize("key", ["", "fov_unknown"])
def test_a_missing_or_unknown_key_is_401(gateway: Gateway, key: str) -> None:
    with gateway.client(key) as client:
        answer = client.get("/v1/projects")
    assert (answer.status_code, answer.json()["error"]) == (401, "Unauthorised")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert gateway.data.n_requests == 0


def test_a_key_has_256_random_bits_is_shown_once_and_stored_as_its_hash(gateway: Gateway) -> None:
    with gateway.client() as admin:
        made = admin.post("/v1/keys", json={"name": "ann", "role": "viewer"})
        listed = admin.get("/v1/keys").json()
    assert made.status_code == 201
    key = made.json()["key"]
    assert re.fullmatch(r"fov_[A-Za-z0-9_-]{43}", key)
    assert made.json()["id"] in [k["id"] for k in listed]
    assert key not in str(listed)
    with gateway.database.transaction() as session:
        row = session.get(ApiKeyRow, made.json()["id"])
        assert row is not None
        assert re.fullmatch(r"[0-9a-f]{64}", row.sha256)


def test_a_revoked_key_is_401_at_once(gateway: Gateway) -> None:
    with gateway.client() as admin:
        made = admin.post("/v1/keys", json={"name": "ann", "role": "viewer"}).json()
        with gateway.client(made["key"]) as viewer:
            assert viewer.get("/v1/projects").status_code == 200
            revoked = admin.delete(f"/v1/keys/{made['id']}")
            assert revoked.json()["revoked_at"] is not None
            assert viewer.get("/v1/projects").status_code == 401


def test_an_unknown_key_id_is_404_with_its_name(gateway: Gateway) -> None:
    with gateway.client() as admin:
        answer = admin.delete("/v1/keys/nope")
    assert (answer.status_code, answer.json()["error"]) == (404, "UnknownKey")
    assert answer.json()["detail"] == "unknown key: 'nope'"


@pytest.mark.parametrize("name", ["service", "", "a\nb", "ü"])
def test_a_key_cannot_have_the_name_of_our_services_or_one_unfit_for_a_header(
    gateway: Gateway, name: str
) -> None:
    with gateway.client() as admin:
        answer = admin.post("/v1/keys", json={"name": name, "role": "viewer"})
    assert answer.status_code in {400, 422}


def test_the_command_makes_a_key_that_opens(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    keys_command.main(["create", "--name", "first", "--role", "admin"], gateway.settings)
    key = capsys.readouterr().out.strip()
    with gateway.client(key) as admin:
        assert [k["name"] for k in admin.get("/v1/keys").json()] == ["first"]


def test_the_command_keeps_a_key_that_opens_and_replaces_one_that_does_not(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    def ensure(key: str) -> str:
        settings = gateway.settings.model_copy(update={"api_key": SecretStr(key)})
        keys_command.main(["ensure", "--name", "local", "--role", "admin"], settings)
        return capsys.readouterr().out.strip()

    made = ensure("fov_of_a_database_that_was_deleted")
    assert ensure(made) == made
    with gateway.client(made) as admin:
        (found,) = admin.get("/v1/keys").json()
        admin.delete(f"/v1/keys/{found['id']}")
    assert ensure(made) != made
    viewer = gateway.key("viewer")
    assert ensure(viewer) != viewer


def test_the_service_key_may_do_everything(gateway: Gateway) -> None:
    with gateway.client("the-service-key") as service:
        assert service.get("/v1/keys").status_code == 200
        assert service.post("/v1/projects", json={}).status_code == 201
    assert ("x-fovea-principal", "service") in gateway.data.headers


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        ("viewer", "GET", "/v1/projects/p/images", 200),
        ("viewer", "POST", "/v1/projects", 403),
        ("viewer", "POST", "/v1/projects/p/leases", 403),
        ("viewer", "GET", "/v1/keys", 403),
        ("viewer", "GET", "/v1/audit", 403),
        ("annotator", "GET", "/v1/projects/p/images", 200),
        # Let through, to a service that is not there.
        ("annotator", "POST", "/v1/projects/p/leases", 503),
        ("annotator", "PUT", "/v1/projects/p/tasks/t/answer", 503),
        ("annotator", "POST", "/v1/projects/p/rounds", 403),
        ("annotator", "POST", "/v1/jobs/j/cancellation", 403),
        ("annotator", "POST", "/v1/keys", 403),
        ("admin", "POST", "/v1/projects", 201),
        ("admin", "GET", "/v1/audit", 200),
    ],
)
def test_a_role_goes_only_so_far(
    gateway: Gateway, role: Role, method: str, path: str, status: int
) -> None:
    with gateway.client(role=role) as client:
        answer = client.request(method, path)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"] == "Forbidden"
        assert answer.json()["detail"] == f"role {role!r} may not {method} {path}"


def test_signed_addresses_of_files_need_no_key_but_only_to_read(gateway: Gateway) -> None:
    with gateway.client("") as client:
        assert client.get("/v1/files/projects/p/a.png?signature=s").status_code == 200
        assert client.put("/v1/files/projects/p/a.png").status_code == 401
    assert ("x-fovea-principal", "anonymous") in gateway.data.headers


class TestRate:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"request_rate_per_s": 2.0})

    def test_too_many_requests_are_429_until_the_time_it_says(self, gateway: Gateway) -> None:
        with gateway.client() as client:
            answers = [client.get("/v1/projects") for _ in range(3)]
            assert [a.status_code for a in answers] == [200, 200, 429]
            assert answers[2].json()["detail"] == "more than 2 requests a second"
            time.sleep(int(answers[2].headers["Retry-After"]))
            assert client.get("/v1/projects").status_code == 200

    def test_each_key_has_its_own_rate_and_the_services_have_none(self, gateway: Gateway) -> None:
        with gateway.client() as first, gateway.client() as second:
            assert {first.get("/v1/projects").status_code for _ in range(5)} == {200, 429}
            assert second.get("/v1/projects").status_code == 200
        with gateway.client("the-service-key") as service:
            assert {service.get("/v1/projects").status_code for _ in range(9)} == {200}

    def test_unknown_keys_use_up_the_rate_of_their_address(self, gateway: Gateway) -> None:
        known = gateway.key("viewer")
        with gateway.client("fov_unknown") as guesser, gateway.client(known) as viewer:
            assert viewer.get("/v1/projects").status_code == 200
            assert [guesser.get("/v1/projects").status_code for _ in range(3)] == [401, 429, 429]
            # Its key is remembered, so that it needs nothing of its address.
            assert viewer.get("/v1/projects").status_code == 200


def test_a_bucket_fills_at_its_rate_and_no_further_than_one_second() -> None:
    now = 0.0
    limiter = RateLimiter(0.5, clock=lambda: now)
    assert limiter.take("a") == 0
    assert limiter.take("a") == 2
    now = 2.0
    assert limiter.take("a") == 0
    now = 1000.0
    assert [limiter.take("a") for _ in range(2)] == [0, 2]


def test_the_audit_log_has_what_changes_things_and_what_was_refused(gateway: Gateway) -> None:
    with gateway.client(gateway.key("viewer", "vic")) as viewer:
        viewer.get("/v1/projects")
        viewer.post("/v1/projects", headers={"X-Request-ID": "r-1"})
    with gateway.client(gateway.key("admin", "root")) as admin:
        admin.post("/v1/projects", headers={"X-Request-ID": "r-2"})
        admin.post("/v1/projects/p/rounds", headers={"X-Request-ID": "r-3"})
        entries = admin.get("/v1/audit").json()
        older = admin.get("/v1/audit", params={"before": entries[1]["id"]}).json()
    seen = [tuple(e[k] for k in ("principal", "method", "path", "status")) for e in entries]
    assert seen == [
        ("root", "POST", "/v1/projects/p/rounds", 503),
        ("root", "POST", "/v1/projects", 201),
        ("vic", "POST", "/v1/projects", 403),
    ]
    assert [e["request_id"] for e in entries] == ["r-3", "r-2", "r-1"]
    assert [e["request_id"] for e in older] == ["r-1"]


def test_an_entry_names_the_project_that_it_was_about(gateway: Gateway) -> None:
    jobs = JobStore(gateway.database, Bell(make_celery(gateway.settings)), gateway.settings)
    with gateway.database.transaction() as session:
        submits = [JobSubmit("inference.batch", "cells", KeyCreate(name="a", role="viewer"))] * 2
        batch, deleted = (jobs.submit(session, submit).id for submit in submits)
    jobs.cancel(deleted)
    retire(jobs, deleted)
    with gateway.client() as admin:
        for method, path in (
            ("POST", "/v1/projects/cells/rounds"),
            ("PUT", "/v1/projects/cells"),
            ("POST", "/v1/batches?project=cells&name=night"),
            ("POST", f"/v1/batches/{batch}/cancel"),
            ("DELETE", f"/v1/batches/{batch}"),
            ("DELETE", f"/v1/batches/{deleted}"),
            ("POST", f"/v1/jobs/{batch}/cancellation"),
            ("POST", "/v1/projects"),
            ("POST", "/v1/batches"),
            ("POST", "/v1/batches/nope/cancel"),
            ("POST", "/v1/batches/%00/cancel"),
            ("POST", f"/v1/projects/{'x' * 70}/rounds"),
            ("POST", "/v1/batches?project=%00"),
        ):
            admin.request(method, path)
        named = [entry["project"] for entry in reversed(admin.get("/v1/audit").json())]
    assert named == ["cells"] * 7 + [None] * 4 + ["x" * 64, "\ufffd"]


def test_a_nul_in_a_path_is_audited_as_a_replacement_character(gateway: Gateway) -> None:
    with gateway.client() as admin:
        admin.post("/v1/%00")
        [entry] = admin.get("/v1/audit").json()
    assert entry["path"] == "/v1/\ufffd"


def test_the_audit_writer_goes_on_after_a_batch_that_the_database_refuses(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "FLUSH_EVERY_S", 0.01)
    audit_log = audit.AuditLog(database)
    entry = audit.Audited(utcnow(), "ann", "POST", "/v1/projects", None, 201, "r-1")

    async def write() -> None:
        writer = asyncio.create_task(audit_log.run())
        audit_log.add(replace(entry, status=10**20))
        await asyncio.sleep(0.3)
        audit_log.add(entry)
        await asyncio.sleep(0.3)
        assert not writer.done()
        writer.cancel()

    asyncio.run(write())
    assert [e.status for e in audit_log.list()] == [201]


@pytest.mark.parametrize("before", ["-1", "2147483648", str(10**20)])
def test_an_audit_id_over_the_range_is_422(gateway: Gateway, before: str) -> None:
    with gateway.client() as admin:
        assert admin.get("/v1/audit", params={"before": before}).status_code == 422

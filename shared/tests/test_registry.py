"""Registration through a connection that loses answers, to a real MLflow server."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from shared.errors import AppError, BackendUnavailable, NotFound, UpstreamFailed
from shared.models.registry import EngineChoice
from shared.registry import ModelRegistry, Registration, UnknownModel
from shared.tests.mlflow_server import mlflow_url

__all__ = ["mlflow_url"]


class LossyProxy(ThreadingHTTPServer):
    """Passes requests on; paths that end in `lost` are answered with `status` instead."""

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.lost = "/nothing"
        self.status = 503
        self.n_lost = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def _pass_on(self) -> None:
        proxy = self.server
        assert isinstance(proxy, LossyProxy)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        dropped = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
        headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
        url = proxy.target + self.path
        answer = httpx2.request(self.command, url, content=body, headers=headers, timeout=30)
        if self.path.split("?")[0].endswith(proxy.lost):
            proxy.n_lost += 1
            self.send_error(proxy.status)
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("content-type", "text/plain"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def proxy(mlflow_url: str) -> Iterator[LossyProxy]:
    with LossyProxy(mlflow_url) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


def registration(project: str, package: Path) -> Registration:
    package.mkdir()
    (package / "model.json").write_text("{}")
    return Registration(
        project=project,
        job_id="job",
        package=package,
        classes=("cat",),
        weights_sha256="a" * 64,
        dataset_version=1,
        dataset_hash="b" * 64,
        round_id=None,
        params={},
        metrics={"map50": 0.5},
        history={},
    )


@pytest.mark.parametrize("lost", ["/model-versions/create", "/runs/create"])
def test_a_lost_answer_does_not_make_a_second_version_of_one_job(
    proxy: LossyProxy, tmp_path: Path, lost: str
) -> None:
    project = lost.strip("/").replace("/", "-")
    model = registration(project, tmp_path / "package")
    registry = ModelRegistry(proxy.url)
    proxy.lost = lost
    with pytest.raises(BackendUnavailable, match="MLflow"):
        registry.register(model)
    assert proxy.n_lost == 1
    proxy.lost = "/nothing"
    assert registry.register(model).version == 1
    assert [v.version for v in registry.list(project)] == [1]
    experiment = registry._client.get_experiment_by_name(project)
    assert experiment is not None
    assert len(registry._client.search_runs([experiment.experiment_id])) == 1


def test_the_engine_of_each_kind_of_machine_is_kept_with_the_version(
    mlflow_url: str, tmp_path: Path
) -> None:
    registry = ModelRegistry(mlflow_url)
    made = registry.register(registration("engines", tmp_path / "package"))
    assert made.engines == ()
    small, large = (
        EngineChoice(
            engine=engine, machine=f"Some(R) CPU @ {n} GHz", images_per_s={"pytorch": 1, engine: n}
        )
        for engine, n in (("openvino", 2), ("onnxruntime", 3))
    )
    for choice in (small, large, small):
        registry.log_engine("engines", 1, choice)
    registry._client.set_model_version_tag("engines", "1", "fovea.engine.by-hand", "{}")
    found = registry.get("engines", 1).engines
    assert sorted(found, key=str) == sorted((small, large), key=str)
    with pytest.raises(UnknownModel, match="2"):
        registry.log_engine("engines", 2, small)


@pytest.mark.parametrize("name", ["a'b", "x' or name != '", "a:b", "", "Farm", "farm\n"])
def test_a_name_that_no_project_can_have_is_not_found(mlflow_url: str, name: str) -> None:
    registry = ModelRegistry(mlflow_url)
    for ask in (registry.list, registry.aliases, lambda name: registry.find_by_job(name, "job")):
        with pytest.raises(NotFound) as e:
            ask(name)
        assert str(e.value) == f"unknown project: {name!r}"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, UpstreamFailed),
        (403, UpstreamFailed),
        (404, UpstreamFailed),
        (429, BackendUnavailable),
        (500, BackendUnavailable),
        (503, BackendUnavailable),
    ],
)
def test_only_what_may_pass_is_worth_waiting_for(
    proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch, status: int, error: type[AppError]
) -> None:
    registry = ModelRegistry(proxy.url)
    assert registry.aliases("farm") == {}
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    proxy.lost, proxy.status = "/registered-models/get", status
    with pytest.raises(error, match=rf"MLflow \({proxy.url}\): .*{status}"):
        registry.aliases("farm")


@pytest.mark.parametrize(("status", "error"), [(413, UpstreamFailed), (507, BackendUnavailable)])
def test_a_package_that_is_refused_is_not_sent_for_ever(
    proxy: LossyProxy, tmp_path: Path, status: int, error: type[AppError]
) -> None:
    proxy.lost, proxy.status = "/model/model.json", status
    with pytest.raises(error, match=rf"MLflow \({proxy.url}\): {status} "):
        ModelRegistry(proxy.url).register(registration(f"refused-{status}", tmp_path / "package"))


def test_a_server_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = ModelRegistry("http://127.0.0.1:9")
    assert registry._client
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BackendUnavailable, match=r"MLflow \(http://127.0.0.1:9\): "):
        registry.aliases("farm")

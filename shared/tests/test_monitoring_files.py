"""What watches the stack: valid, complete, and asking only for what is really exported."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY, generate_latest

import shared.jobs.worker
from shared.service import create_service
from shared.settings import Settings
from shared.tests.stack_files import ROOT, compose_services, read_yaml

PROMETHEUS = ROOT / "monitoring/prometheus"
DASHBOARD = ROOT / "monitoring/grafana/dashboards/fovea.json"
# Made by Prometheus itself.
OF_PROMETHEUS = {"up", "ALERTS"}
PORT_OF_SERVICES, PORT_OF_WORKERS = 8000, 9100

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None,
    reason="amtool is not installed (Debian: prometheus-alertmanager)",
)


def run(*command: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_accepts_its_configuration() -> None:
    run("promtool", "check", "config", "prometheus.yml", cwd=PROMETHEUS)


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    run("promtool", "test", "rules", "rules_test.yml", cwd=PROMETHEUS)


def test_every_alert_has_a_test() -> None:
    groups = read_yaml("monitoring/prometheus/rules.yml")["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    tested = re.findall(r"alertname: (\w+)", (PROMETHEUS / "rules_test.yml").read_text("utf-8"))
    assert set(tested) == alerts


@needs_amtool
def test_alertmanager_accepts_its_configuration() -> None:
    run("amtool", "check-config", "monitoring/alertmanager/alertmanager.yml")


def test_prometheus_asks_every_service_and_every_worker() -> None:
    apis, workers = set(), set()
    for name, service in compose_services().items():
        command = " ".join(service.get("command", []))
        if command.startswith("python -m "):
            workers.add(f"{name}:{PORT_OF_WORKERS}")
        elif service["image"].startswith("fovea/") and name not in {
            "migrate",
            "mlflow",
            "dashboard",
        }:
            apis.add(f"{name}:{PORT_OF_SERVICES}")
    jobs = {
        job["job_name"]: set(job["static_configs"][0]["targets"])
        for job in read_yaml("monitoring/prometheus/prometheus.yml")["scrape_configs"]
    }
    named = {
        f"{name}:{of['port']}"
        for job in read_yaml("monitoring/prometheus/prometheus.yml")["scrape_configs"]
        for of in job.get("dns_sd_configs", ())
        for name in of["names"]
    }
    assert jobs["services"] == apis
    assert jobs["workers"] | named == workers
    assert named == {f"inference-worker:{PORT_OF_WORKERS}"}
    assert jobs["monitoring"] == {"localhost:9090", "alertmanager:9093"}


@needs_promtool
def test_prometheus_can_read_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{index}", "expr": expression}
        for index, expression in enumerate(dashboard_expressions())
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run("promtool", "check", "rules", str(path))


def test_alerts_and_dashboard_ask_only_for_what_is_exported() -> None:
    groups = read_yaml("monitoring/prometheus/rules.yml")["groups"]
    of_rules = [rule["expr"] for group in groups for rule in group["rules"]]
    asked = {name for expr in (*dashboard_expressions(), *of_rules) for name in metric_names(expr)}
    assert "fovea_jobs_total" in asked
    assert asked - exported_by_services() - exported_by_workers() == OF_PROMETHEUS


def test_metric_names_are_told_from_the_rest_of_an_expression() -> None:
    expression = 'topk(3, sum by (le, kind) (rate(a_bucket{x="y"}[5m]))) unless b offset 15m > 0.5'
    assert set(metric_names(expression)) == {"a_bucket", "b"}


def test_the_dashboard_asks_the_provisioned_data_source() -> None:
    sources = read_yaml("monitoring/grafana/provisioning/datasources/fovea.yml")["datasources"]
    services = compose_services()
    for source in sources:
        assert source["url"].removeprefix("http://").split(":")[0] in services
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    asked = {target["datasource"]["uid"] for panel in panels for target in panel["targets"]}
    assert asked == {"prometheus"}
    assert asked <= {source["uid"] for source in sources}
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_grafana_finds_its_dashboards() -> None:
    grafana = compose_services()["grafana"]
    provider = read_yaml("monitoring/grafana/provisioning/dashboards/fovea.yml")["providers"][0]
    folder = provider["options"]["path"]
    assert f"./grafana/dashboards:{folder}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/{DASHBOARD.name}"


def dashboard_expressions() -> list[str]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def metric_names(expression: str) -> Iterator[str]:
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without) *\([^)]*\)|\boffset \w+", " ", expression)
    for match in re.finditer(r"(?<![\w.])[A-Za-z_]\w*(?! *\(|\w)", bare):
        if match[0] not in {"and", "or", "unless"}:
            yield match[0]


def exported(page: str) -> set[str]:
    names: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", page, re.MULTILINE):
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {name + suffix for suffix in suffixes}
    return names


def exported_by_services() -> set[str]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        yield {}

    app = create_service(
        "gateway",
        settings=Settings(),
        routers=[],
        lifespan=lifespan,
        checks=lambda _state: {},
        internal=False,
    )
    with TestClient(app) as client:
        client.get("/nowhere")
        return exported(client.get("/metrics").text)


def exported_by_workers() -> set[str]:
    assert shared.jobs.worker.JOBS is not None
    return exported(generate_latest(REGISTRY).decode())

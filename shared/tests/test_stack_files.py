"""The stack's files: valid by the tools that read them, hardened, and complete."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.tests.stack_files import COMPOSE_FILES, ROOT, compose_services, filled_env, read_yaml

SERVICES = (
    "gateway",
    "data_service",
    "inference_service",
    "labeling_service",
    "training_service",
    "calibration_service",
    "monitoring/evidently_service",
)
IMAGES = (*SERVICES, "dashboard", "mlflow_service")
WITH_TORCH = {"inference_service", "training_service"}
WORKFLOWS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(".github/workflows/*.yml"))
# Who may be reached from outside, and who may go there: alerts are sent, base models are fetched.
PUBLISHED = {
    "gateway": 8000,
    "dashboard": 8501,
    "mlflow": 5000,
    "grafana": 3000,
    "label-studio": 8080,
}
WITH_A_WAY_OUT = {
    *PUBLISHED,
    "alertmanager",
    "data-worker",
    "inference",
    "inference-worker",
    "training-worker",
}


def run(*command: str, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def dockerfile(folder: str) -> str:
    return (ROOT / folder / "Dockerfile").read_text("utf-8")


def compose_is_there() -> bool:
    if shutil.which("docker") is None:
        return False
    command = ["docker", "compose", "version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_compose_files_follow_the_compose_schema() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    run(tool("check-jsonschema"), *schema, *COMPOSE_FILES)


@pytest.mark.skipif(not compose_is_there(), reason="docker compose is not installed")
@pytest.mark.parametrize("s3_server", ["minio", "seaweedfs"])
@pytest.mark.parametrize("files", [(), ("-f", "docker-compose.yml", "-f", "compose.gpu.yaml")])
def test_compose_accepts_the_whole_stack(
    files: tuple[str, ...], s3_server: str, tmp_path: Path
) -> None:
    env_file = tmp_path / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in filled_env().items()))
    command = (
        "docker",
        "compose",
        "--env-file",
        str(env_file),
        "--profile",
        "label-studio",
        *files,
    )
    run(*command, "config", "--quiet", S3_SERVER=s3_server)


@pytest.mark.skipif(not compose_is_there(), reason="docker compose is not installed")
def test_compose_refuses_to_start_while_a_secret_is_empty() -> None:
    command = ["docker", "compose", "--env-file", ".env.example", "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "is missing a value: set it in .env" in done.stderr


def test_hadolint_finds_nothing_in_the_dockerfiles() -> None:
    run(tool("hadolint"), "-c", ".hadolint.yaml", *(f"{folder}/Dockerfile" for folder in IMAGES))


def test_actionlint_finds_nothing_in_the_workflows() -> None:
    assert WORKFLOWS
    run(tool("actionlint"), *WORKFLOWS)
    schema = ("--builtin-schema", "vendor.github-workflows")
    run(tool("check-jsonschema"), *schema, *WORKFLOWS)


@pytest.mark.parametrize("folder", IMAGES)
def test_no_image_runs_as_root(folder: str) -> None:
    lines = dockerfile(folder).splitlines()
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER 10001"]
    assert not any(line.startswith("RUN ") for line in lines[lines.index("USER 10001") :])


@pytest.mark.parametrize("folder", SERVICES)
def test_dockerfiles_of_services_differ_only_where_they_must(folder: str) -> None:
    module = folder.replace("/", ".")
    expected = dockerfile("gateway").replace("COPY database/migrations database/migrations\n", "")
    expected = expected.replace("gateway.app", f"{module}.app").replace("gateway", folder)
    expected = expected.replace(f"{folder}.app", f"{module}.app")
    given = dockerfile(folder).replace("COPY database/migrations database/migrations\n", "")
    given = given.replace("COPY monitoring/__init__.py monitoring/\n", "")
    if folder in WITH_TORCH:
        start, end = given.index("# A layer of its own"), given.index(f"COPY {folder}/requirements")
        torch = given[start:end]
        assert "ARG UV_TORCH_BACKEND=cpu\n" in torch
        assert torch in dockerfile("inference_service")
        given = given.replace(torch, "")
    if folder == "inference_service":
        # It starts its own processes.
        given, expected = (text[: text.index("\nCMD ")] for text in (given, expected))
        assert '\nCMD ["python", "-m", "inference_service.app.processes", ' in dockerfile(folder)
    assert given == expected


@pytest.mark.parametrize("folder", IMAGES)
def test_what_an_image_copies_is_sent_to_the_builder(folder: str) -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sent = [line.removeprefix("!") for line in lines if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile(folder), re.MULTILINE)
    sources = {source for copy in copies for source in copy.split()}
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert any(source == path or source.startswith(f"{path}/") for path in sent), source


def test_the_image_of_the_dashboard_has_its_configuration() -> None:
    assert "showErrorDetails" in (ROOT / ".streamlit/config.toml").read_text("utf-8")
    assert "WORKDIR /app\n" in dockerfile("dashboard")
    assert "\nCOPY .streamlit .streamlit\n" in dockerfile("dashboard")


@pytest.mark.parametrize("folder", IMAGES)
def test_an_image_with_pytorch_can_choose_its_build(folder: str) -> None:
    requirements = (ROOT / folder / "requirements.txt").read_text("utf-8")
    needs_torch = "torch" in requirements or "baal" in requirements
    assert ("UV_TORCH_BACKEND" in dockerfile(folder)) == needs_torch
    service = next(
        service
        for service in compose_services().values()
        if service.get("build", {}).get("dockerfile") == f"{folder}/Dockerfile"
    )
    assert ("UV_TORCH_BACKEND" in service["build"].get("args", {})) == needs_torch


@pytest.mark.parametrize("name", sorted(compose_services()))
def test_a_container_is_hardened_and_limited(name: str) -> None:
    service = compose_services()[name]
    assert service["extends"]["service"] == "hardened"
    assert "mem_limit" in service
    assert "healthcheck" in service or "build" in service
    # Label Studio's start script writes beside its own code.
    assert service.get("read_only", True) == (name != "label-studio")
    assert not service.get("privileged", False)
    assert service.get("cap_add", []) == []


def test_what_every_container_has() -> None:
    hardened = read_yaml("compose.common.yaml")["services"]["hardened"]
    assert hardened["read_only"] is True
    assert hardened["cap_drop"] == ["ALL"]
    assert hardened["security_opt"] == ["no-new-privileges:true"]
    assert hardened["restart"] == "unless-stopped"
    assert hardened["networks"] == ["back"]


def test_only_pages_for_people_are_published_and_on_loopback() -> None:
    ports = {
        name: service["ports"] for name, service in compose_services().items() if "ports" in service
    }
    expected = {
        name: [f"${{FOVEA_BIND:-127.0.0.1}}:{port}:{port}"] for name, port in PUBLISHED.items()
    }
    # Whoever reaches it first may sign up there.
    assert ports == expected | {"label-studio": ["127.0.0.1:8080:8080"]}


def test_back_ends_have_no_way_out() -> None:
    assert read_yaml("docker-compose.yml")["networks"]["back"] == {"internal": True}
    outside = {
        name
        for name, service in compose_services().items()
        if "front" in service.get("networks", [])
    }
    assert outside == WITH_A_WAY_OUT


def test_every_third_party_image_is_pinned() -> None:
    services = compose_services() | {
        "seaweedfs": read_yaml("storage/seaweedfs.yml")["services"]["s3"]
    }
    third_party = {s["image"] for s in services.values() if not s["image"].startswith("fovea/")}
    assert third_party
    assert [image for image in third_party if ":" not in image or image.endswith(":latest")] == []


def test_a_worker_runs_the_image_of_its_api() -> None:
    services = compose_services()
    built = {service["image"] for service in services.values() if "build" in service}
    ours = {name: s for name, s in services.items() if s["image"].startswith("fovea/")}
    assert {service["image"] for service in ours.values()} == built
    for name in ours:
        if name.endswith("-worker"):
            assert ours[name]["image"] == ours[name.removesuffix("-worker")]["image"]
            assert ours[name]["command"][:2] == ["python", "-m"]


def test_the_hosted_tests_use_the_servers_of_the_stack() -> None:
    workflow = (ROOT / ".github/workflows/tests.yml").read_text("utf-8")
    services = compose_services()
    for name in ("s3", "weaviate"):
        assert services[name]["image"] in workflow


def test_the_hosted_builds_build_every_image() -> None:
    jobs: dict[str, Any] = read_yaml(".github/workflows/images.yml")["jobs"]
    matrix = {entry["folder"] for entry in jobs["build"]["strategy"]["matrix"]["include"]}
    assert matrix | {"gateway"} == set(IMAGES)


def test_workflows_may_only_read() -> None:
    assert {str(read_yaml(path)["permissions"]) for path in WORKFLOWS} == {"{'contents': 'read'}"}

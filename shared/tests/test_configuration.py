"""Settings, compose, `.env.example` and the documentation say the same."""

import re

import pytest

from shared.settings import NOT_SETTINGS, PREFIX, Settings, load_settings
from shared.settings_page import default_of, render
from shared.tests.stack_files import (
    ROOT,
    compose_services,
    compose_variables,
    env_example,
    filled_env,
    interpolate,
    read_yaml,
)

SETTINGS = {PREFIX + name.upper(): name for name in Settings.model_fields}
DOCUMENTS = [ROOT / ".env.example", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
ENVIRONMENT: dict[str, str | None] = read_yaml("docker-compose.yml")["x-environment"]


def stack_environment() -> dict[str, str]:
    given = filled_env()
    passed = {
        name: interpolate(str(value), given) if value is not None else given.get(name)
        for name, value in ENVIRONMENT.items()
    }
    return {name: value for name, value in passed.items() if value is not None}


def test_compose_passes_every_setting_on_and_no_other() -> None:
    assert {name for name in ENVIRONMENT if name.startswith(PREFIX)} == set(SETTINGS)


def test_every_service_of_ours_gets_the_same_environment() -> None:
    ours = {
        name
        for name, service in compose_services().items()
        if service.get("environment") == ENVIRONMENT
    }
    workers = {
        f"{name}-worker"
        for name in ("data", "inference", "labeling", "training", "calibration", "evidently")
    }
    apis = {"gateway", "data", "inference", "labeling", "training", "calibration", "evidently"}
    assert ours == apis | workers | {"jobs", "migrate", "dashboard"}


def test_compose_gives_no_default_that_settings_have() -> None:
    doubled = [
        name
        for name, value in ENVIRONMENT.items()
        if name in SETTINGS and value is not None and str(value) == default_of(SETTINGS[name])
    ]
    assert doubled == []


def test_the_stack_starts_with_env_example_once_the_secrets_are_filled_in() -> None:
    settings = load_settings(stack_environment())
    assert settings.database_url.startswith("postgresql+psycopg://fovea:")
    assert settings.gateway_url == "http://gateway:8000"
    assert settings.service_key.get_secret_value() == "0123456789abcdef" * 4


@pytest.mark.parametrize("name", ["FOVEA_SERVICE_KEY", "FOVEA_SIGNING_KEY"])
def test_the_stack_refuses_a_default_secret(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        load_settings(stack_environment() | {name: "insecure-default"})


def test_secrets_are_required_and_have_no_default() -> None:
    secrets = [
        name
        for name, default in compose_variables()
        if name.endswith(("_KEY", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD")) and default is not None
    ]
    assert secrets == []


def test_env_example_names_all_that_compose_asks_for_and_nothing_unknown() -> None:
    asked = {name for name, _ in compose_variables()}
    named = {line.name for line in env_example()}
    # AWS_DEFAULT_REGION's source: a setting like the others, without a line of its own.
    assert asked - named == {"FOVEA_S3_REGION"}
    assert named - asked - set(SETTINGS) == set()


def test_a_default_shown_in_env_example_is_the_one_in_force() -> None:
    in_compose = {name: default for name, default in compose_variables() if default is not None}
    for line in env_example():
        if line.is_default and line.name in in_compose:
            assert (line.name, line.value) == (line.name, in_compose[line.name])
        elif line.is_default:
            assert (line.name, line.value) == (line.name, default_of(SETTINGS[line.name]))


def test_the_page_of_settings_is_up_to_date() -> None:
    page = (ROOT / "docs/settings.md").read_text("utf-8")
    assert page == render(), "run: python -m shared.settings_page > docs/settings.md"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_only_variables_that_exist(path: object) -> None:
    text = (ROOT / str(path)).read_text("utf-8")
    named = set(re.findall(r"\bFOVEA_[A-Z0-9_]*[A-Z0-9]\b(?!\*)", text))
    assert named <= set(SETTINGS) | NOT_SETTINGS


def test_mlflow_answers_to_the_name_that_services_call_it_by() -> None:
    hosts = compose_services()["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"]
    assert interpolate(hosts, {}) == "mlflow:*,localhost:*,127.0.0.1:*"

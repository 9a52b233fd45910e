import pytest

from shared.settings import Settings, is_embedded, load_settings

SECRETS = {"FOVEA_SERVICE_KEY": "s" * 32, "FOVEA_SIGNING_KEY": "k" * 32}


def test_defaults_are_embedded() -> None:
    settings = load_settings({})
    assert settings.database_url == "sqlite:///.fovea/fovea.db"
    assert settings.host == "127.0.0.1"


def test_given_settings_are_not_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_INFERENCE_WORKERS", "7")
    assert load_settings({}).inference_workers == 0
    assert load_settings({"FOVEA_INFERENCE_WORKERS": "3"}).inference_workers == 3


def test_a_misspelt_variable_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match="unknown settings: FOVEA_DATABASE_ULR"):
        load_settings({"FOVEA_DATABASE_ULR": "sqlite://"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FOVEA_DATABASE_URL", "postgresql+psycopg://fovea@database/fovea"),
        ("FOVEA_BROKER_URL", "redis://redis:6379/0"),
        ("FOVEA_OBJECT_STORE_URL", "s3://fovea"),
        ("FOVEA_VECTOR_STORE_URL", "weaviate://weaviate:8080?grpc=50051"),
        ("FOVEA_MLFLOW_URL", "http://mlflow:5000"),
        ("FOVEA_HOST", "0.0.0.0"),  # noqa: S104 - the value that must be refused
    ],
)
def test_a_default_secret_is_refused_off_loopback(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="FOVEA_SERVICE_KEY must be set"):
        load_settings({name: value})
    assert load_settings({name: value, **SECRETS}) is not None


def test_a_short_secret_is_refused_off_loopback() -> None:
    given = {**SECRETS, "FOVEA_SIGNING_KEY": "short", "FOVEA_BROKER_URL": "redis://redis:6379/0"}
    with pytest.raises(ValueError, match="FOVEA_SIGNING_KEY must be set"):
        load_settings(given)


def test_secrets_are_not_shown() -> None:
    settings = load_settings({"FOVEA_SERVICE_KEY": "very-secret-value-very-secret-value"})
    assert "very-secret" not in repr(settings)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().host = "0.0.0.0"  # type: ignore[misc] # noqa: S104


@pytest.mark.parametrize(
    ("url", "embedded"),
    [
        ("sqlite:///a.db", True),
        ("file:objects", True),
        ("lancedb:vectors", True),
        ("redis://127.0.0.1:6379/0", True),
        ("redis://:pw@localhost:6379/0", True),
        ("redis://redis:6379/0", False),
        ("s3://fovea", False),
        ("http://mlflow:5000", False),
    ],
)
def test_what_counts_as_embedded(url: str, embedded: bool) -> None:
    assert is_embedded(url) is embedded


@pytest.mark.parametrize(
    ("cores", "given", "threads", "n"),
    [
        (1, 0, 0, 1),
        (2, 0, 0, 1),
        (7, 0, 0, 1),
        (8, 0, 0, 2),
        (16, 0, 0, 4),
        (16, 3, 0, 3),
        (96, 0, 0, 8),
        (96, 24, 0, 24),
        (16, 0, 1, 1),
    ],
)
def test_a_machine_has_an_inference_worker_for_every_four_cores(
    cores: int, given: int, threads: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.settings.usable_cores", lambda: cores)
    assert Settings(inference_workers=given, threads=threads).n_inference_workers == n


@pytest.mark.parametrize(
    ("n", "given", "threads", "rate"),
    [(1, 0, 0, 20.0), (2, 0, 4, 10.0), (3, 5, 5, 20 / 3), (99, 0, 1, 20 / 99)],
)
def test_processes_divide_cores_and_rates(
    n: int, given: int, threads: int, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.settings.usable_cores", lambda: 8)
    share = Settings(threads=given).divided(n)
    assert share.threads == threads
    assert share.fetch_rate_per_s == pytest.approx(rate)

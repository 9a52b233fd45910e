"""What stands in the way of every command is one line, never a traceback."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared.cli.main import app


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        (
            "FOVEA_GATEWAY_URL",
            "http://[::1",
            "no address of a gateway (FOVEA_GATEWAY_URL): 'http://[::1': Invalid port: ':1'",
        ),
        (
            "FOVEA_GATEWAY_URL",
            "http://x:abc",
            "no address of a gateway (FOVEA_GATEWAY_URL): 'http://x:abc': Invalid port: 'abc'",
        ),
        ("FOVEA_API_KEY", "clé", "no key (FOVEA_API_KEY): a character of it is not ASCII"),
    ],
)
def test_an_address_or_key_that_can_never_be_one_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, error: str
) -> None:
    monkeypatch.setenv("FOVEA_API_KEY", "key")
    monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["project", "list"])
    assert (done.exit_code, done.stderr) == (1, f"error: {error}\n")


def test_doctor_lists_a_broken_address_among_its_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEA_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("FOVEA_API_KEY", "key")
    monkeypatch.setenv("FOVEA_GATEWAY_URL", "http://[::1")
    done = CliRunner().invoke(app, ["doctor"])
    assert (done.exit_code, done.stderr) == (1, "")
    assert "wrong Invalid port: ':1'" in done.stdout


@pytest.mark.parametrize(
    ("stack", "secrets"),
    [
        ("{", "{}"),
        ("[]", "{}"),
        ('{"urls": 3}', "{}"),
        ('{"urls": {"gateway": "http://x"}}', "[]"),
        ('{"urls": {"gateway": "http://x"}}', "{}"),
    ],
)
def test_a_malformed_stack_is_no_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: str, secrets: str
) -> None:
    monkeypatch.setenv("FOVEA_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("FOVEA_API_KEY", raising=False)
    (tmp_path / "stack.json").write_text(stack)
    (tmp_path / "secrets.json").write_text(secrets)
    done = CliRunner().invoke(app, ["project", "list"])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: no stack found: ")
    assert done.stderr.count("\n") == 1

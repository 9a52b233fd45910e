"""What the embedded stack tells its processes, and how it ends them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shared.errors import BackendUnavailable
from shared.local.config import MEMBER, ROOT
from shared.local.programs import DEFAULT_PORTS, Program, default_port
from shared.local.stack import EmbeddedStack, StackRunning
from shared.migrations import upgrade
from shared.settings import load_settings
from shared.tests.local.processes import HOLDS_LOCK, IGNORES_SIGTERM, SLEEPS, member, supervisor

ONE_WORKER = {"FOVEA_INFERENCE_WORKERS": "1"}


def test_every_process_can_read_the_settings_of_the_stack(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"ports": DEFAULT_PORTS}))
    settings = load_settings(EmbeddedStack(tmp_path).config.settings())
    assert settings.gateway_url == f"http://127.0.0.1:{DEFAULT_PORTS['gateway']}"
    assert settings.state_dir == tmp_path


def test_ports_and_secrets_are_for_the_owner_only_and_stay(tmp_path: Path) -> None:
    config = EmbeddedStack(tmp_path, fixed_ports=False, settings=ONE_WORKER).config
    config.choose_ports()
    ports, secrets = config.ports, config.secrets()
    assert len(set(ports.values())) == len(DEFAULT_PORTS)
    for name in ("stack.json", "secrets.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    again = EmbeddedStack(tmp_path, fixed_ports=False, settings=ONE_WORKER).config
    again.choose_ports()
    assert (again.ports, again.secrets()) == (ports, secrets)


def test_a_large_machine_has_several_inference_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FOVEA_THREADS", raising=False)
    monkeypatch.delenv("FOVEA_INFERENCE_WORKERS", raising=False)
    monkeypatch.setattr("shared.settings.usable_cores", lambda: 16)
    config = EmbeddedStack(tmp_path, fixed_ports=False).config
    config.choose_ports()
    names = [p.name for p in config.programs if p.name.startswith("inference-worker")]
    assert sorted(names) == ["inference-worker", *(f"inference-worker-{n}" for n in (2, 3, 4))]
    assert len({p.port for p in config.programs}) == len(config.programs)
    assert [default_port(f"inference-worker-{n}") for n in (2, 3)] == [9108, 9109]
    fewer = {"FOVEA_INFERENCE_WORKERS": "2"}
    config = EmbeddedStack(tmp_path, fixed_ports=False, settings=fewer).config
    config.choose_ports()
    assert "inference-worker-2" in config.ports
    assert "inference-worker-3" not in config.ports


def test_a_kept_key_that_the_database_does_not_know_is_replaced_at_the_start(
    tmp_path: Path,
) -> None:
    stack = EmbeddedStack(tmp_path, fixed_ports=False)
    stack.config.choose_ports()
    upgrade(f"sqlite:///{tmp_path}/fovea.db")
    stack.config.keep_api_key("fov_of_a_database_that_was_deleted")
    stack._ensure_api_key()
    made = stack.api_key
    assert made != "fov_of_a_database_that_was_deleted"
    stack._ensure_api_key()
    assert stack.api_key == made


def test_a_start_beside_another_start_is_refused_and_ends_nothing_of_it(tmp_path: Path) -> None:
    with member(tmp_path, HOLDS_LOCK, str(tmp_path / "start.lock")) as starter:
        second = EmbeddedStack(tmp_path)
        with pytest.raises(StackRunning, match=str(tmp_path)):
            second.start()
        second.stop()
        assert starter.poll() is None


def test_a_start_beside_a_running_stack_is_refused_and_ends_nothing_of_it(tmp_path: Path) -> None:
    with supervisor(tmp_path) as first:
        second = EmbeddedStack(tmp_path)
        with pytest.raises(StackRunning, match=f"runs already in {tmp_path} .pid {first.pid}"):
            second.start()
        second.stop()
        assert first.poll() is None


def test_fovea_local_beside_another_start_says_one_line(tmp_path: Path) -> None:
    with member(tmp_path, HOLDS_LOCK, str(tmp_path / "start.lock")) as starter:
        done = subprocess.run(
            [sys.executable, "-m", "shared.cli.main", "local"],
            cwd=ROOT,
            env={**os.environ, "FOVEA_STATE_DIR": str(tmp_path), "COLUMNS": "300"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert starter.poll() is None
    assert done.returncode == 1
    assert f"a stack is being started in {tmp_path} by another process" in done.stderr
    assert "Traceback" not in done.stderr


# Whoever runs the tests in the background may have them ignore Ctrl-C, and children inherit that.
AS_IN_A_TERMINAL = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('shared.cli.main', run_name='__main__', alter_sys=True)"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_fovea_local_that_is_interrupted_while_it_starts_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AS_IN_A_TERMINAL, "local"],
        cwd=ROOT,
        env={**os.environ, "FOVEA_STATE_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "applying migrations\n"
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        left = members(tmp_path)
        EmbeddedStack(tmp_path).stop()
    assert "stopping what was started" in said
    assert "Traceback" not in said
    assert process.returncode != 0
    assert left == []


def test_a_process_that_stops_when_asked_is_not_waited_for(tmp_path: Path) -> None:
    with member(tmp_path, SLEEPS) as process:
        started = time.monotonic()
        EmbeddedStack(tmp_path).stop()
        assert time.monotonic() - started < 4
        assert not psutil.pid_exists(process.pid)


def test_a_process_that_ignores_sigterm_is_killed_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.local.stack.STOP_S", 1)
    with member(tmp_path, IGNORES_SIGTERM) as process:
        started = time.monotonic()
        EmbeddedStack(tmp_path).stop()
        assert time.monotonic() - started >= 1
        assert not psutil.pid_exists(process.pid)


def test_stopping_leaves_the_processes_of_other_folders_alone(tmp_path: Path) -> None:
    with member(tmp_path / "other", SLEEPS) as process:
        EmbeddedStack(tmp_path / "this").stop()
        assert process.poll() is None


def test_a_queue_that_a_killed_supervisor_left_behind_is_ended(tmp_path: Path) -> None:
    stack = EmbeddedStack(tmp_path, fixed_ports=False)
    stack.config.choose_ports()
    stack.config.write_files()
    command = next(p.command for p in stack.config.programs if p.name == "valkey")
    log = tmp_path / "valkey.log"
    with log.open("wb") as output:
        queue = subprocess.Popen(command, env=stack.config.environment(), stdout=output)
    try:
        deadline = time.monotonic() + 60
        while "Ready to accept connections" not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        stack.stop()
        assert queue.poll() is not None
    finally:
        queue.kill()
        queue.wait()


def test_memory_is_that_of_the_supervisor_and_below(tmp_path: Path) -> None:
    assert EmbeddedStack(tmp_path).pss_mb() == 0.0
    with supervisor(tmp_path, "kept = b'x' * 100_000_000; " + SLEEPS):
        assert 100 < EmbeddedStack(tmp_path).pss_mb() < 200


def test_a_killed_process_has_another_pid_once_it_is_up_again(tmp_path: Path) -> None:
    stack = EmbeddedStack(tmp_path, fixed_ports=False)
    stack.config.choose_ports()
    code = ("-c", "import time; time.sleep(120)")
    stack.config.programs = [Program("jobs", (sys.executable, *code), stack.config.ports["jobs"])]
    stack.config.write_files()
    (tmp_path / "logs").mkdir()
    assert stack.pid("jobs") == 0
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", f"{tmp_path}/supervisord.conf"]
    supervised = subprocess.Popen(command, env=stack.config.environment())
    try:
        first = wait_for_pid(stack, "jobs")
        wait_for_command(first, code[-1])
        os.kill(first, signal.SIGKILL)
        assert wait_for_pid(stack, "jobs", other_than=first) != first
    finally:
        stack.stop()
        supervised.wait()
    assert members(tmp_path) == []


def wait_for_pid(stack: EmbeddedStack, name: str, other_than: int = 0) -> int:
    deadline = time.monotonic() + 60
    while (pid := stack.pid(name)) in {0, other_than}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return pid


def wait_for_command(pid: int, last_argument: str) -> None:
    """Wait until a child is itself: just forked it is its parent, then it has no command line."""
    deadline = time.monotonic() + 60
    while psutil.Process(pid).cmdline()[-1:] != [last_argument]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def members(state: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MEMBER) == str(state):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_part_that_ends_again_and_again_is_named_with_its_log_long_before_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = EmbeddedStack(tmp_path, fixed_ports=False)
    stack.config.choose_ports()
    # It would ask for all parts again.
    monkeypatch.setattr(stack.config, "choose_ports", lambda: None)
    # The supervisor believes that it runs: it lives for longer than `startsecs`.
    code = ("-c", "import time; time.sleep(2.5); print('no such module'); raise SystemExit(1)")
    stack.config.programs = [Program("jobs", (sys.executable, *code), stack.config.ports["jobs"])]
    try:
        with pytest.raises(
            BackendUnavailable, match=r"jobs is not ready \(it ended 5 times\)(?s:.*)no such module"
        ):
            stack.start()
    finally:
        stack.stop()


def test_a_stack_may_be_without_some_of_its_parts(tmp_path: Path) -> None:
    stack = EmbeddedStack(tmp_path, fixed_ports=False, settings=ONE_WORKER, without=("dashboard",))
    config = stack.config
    config.choose_ports()
    config.write_files()
    assert {p.name for p in config.programs} == set(DEFAULT_PORTS) - {"dashboard", "supervisor"}
    assert "dashboard" not in (tmp_path / "supervisord.conf").read_text()

"""`fovea local`, `stop`, `doctor`, `migrate`: the embedded stack on this machine."""

import threading
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from shared.cli.context import console, settings_or_refuse, told_errors
from shared.local.doctor import diagnose
from shared.local.stack import EmbeddedStack, Health, stop_on_sigterm
from shared.migrations import upgrade


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(local)
    app.command()(stop)
    app.command()(doctor)
    app.command()(migrate)


def local(
    logs: Annotated[bool, typer.Option(help="Follow the logs of every process.")] = False,
    detach: Annotated[bool, typer.Option(help="Leave it running and return.")] = False,
) -> None:
    """Start the whole stack on this machine, without Docker; Ctrl-C stops it, data stays."""
    stop_on_sigterm()
    with told_errors():
        stack = EmbeddedStack(settings_or_refuse().state_dir)
        if stack.is_running():
            console.print(f"already running in {stack.state}")
            stack.wait_ready()
        else:
            _start(stack)
        try:
            console.print(health_table(stack.health()))
            console.print(f"keys and data: {stack.state}   logs: {stack.state / 'logs'}")
            if detach:
                return
            console.print("Ctrl-C stops everything; data stays for the next start.")
            _follow(stack) if logs else threading.Event().wait()
        except KeyboardInterrupt:
            console.print("\nstopping")
        stack.stop()
        console.print("stopped")


def _start(stack: EmbeddedStack) -> None:
    try:
        stack.start(say=console.print)
    except BaseException:
        console.print("stopping what was started")
        stack.stop()
        raise


def stop() -> None:
    """Stop the embedded stack; data stays."""
    with told_errors():
        stack = EmbeddedStack(settings_or_refuse().state_dir)
    running = stack.is_running()
    stack.stop()
    console.print("stopped" if running else f"no stack runs in {stack.state}")


def doctor() -> None:
    """Check every part and say how to mend what is wrong."""
    with told_errors():
        findings = diagnose(settings_or_refuse())
    table = Table("part", "state", "what to do", title="fovea doctor")
    for finding in findings:
        mark = ("ok", "green") if finding.ok else ("wrong", "red")
        table.add_row(finding.part, Text.assemble(mark, f" {finding.detail}"), finding.remedy)
    console.print(table)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def migrate() -> None:
    """Bring the database's tables to the newest version."""
    with told_errors():
        upgrade(settings_or_refuse().database_url)
    console.print("database is up to date")


def health_table(health: Iterable[Health]) -> Table:
    """Return a table of addresses and health."""
    table = Table("process", "state", "address", "pid")
    for part in health:
        state = Text("ready", "green")
        if not part.ready:
            state = Text.assemble((part.state, "red"), f" {part.detail}")
        table.add_row(part.name, state, part.url, str(part.pid))
    return table


def _follow(stack: EmbeddedStack) -> None:
    for line in stack.follow_logs():
        console.print(line, highlight=False)

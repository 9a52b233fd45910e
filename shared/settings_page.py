"""The page of all settings: `python -m shared.settings_page > docs/settings.md`."""

import sys

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from shared.settings import PREFIX, Settings

_HEAD = """# Settings

Every process reads its settings from `FOVEA_*` variables, and from nowhere else; a variable that is
no setting is refused at start. The stack takes them from `.env` (see `.env.example`), `make local`
from the environment.
This page is made by `python -m shared.settings_page > docs/settings.md`.

| variable | default | meaning |
|---|---|---|
"""


def render() -> str:
    """Return the page in Markdown."""
    fields = Settings.model_fields.items()
    return _HEAD + "".join(_row(name, field) for name, field in fields)


def default_of(name: str) -> str:
    """Return a setting's default as the environment would give it; unset is empty."""
    default = Settings.model_fields[name].default
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    return "" if default is None else str(default)


def _row(name: str, field: FieldInfo) -> str:
    default = default_of(name)
    shown = f"`{default}`" if default else ""
    return f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())

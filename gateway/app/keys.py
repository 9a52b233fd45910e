"""`python -m gateway.app.keys create --name NAME --role admin`: make a key without having one.

`ensure` instead of `create` makes none where `FOVEA_API_KEY` is one of that role already.
"""

import argparse
import sys
from typing import get_args

from gateway.app.models.schemas import KeyCreate, Role
from gateway.app.services.keys import ApiKeys, digest
from shared.database import Database
from shared.errors import Unauthorised
from shared.settings import Settings, load_settings


def main(arguments: list[str] | None = None, settings: Settings | None = None) -> None:
    """Make a key and write it to standard output, for the only time."""
    given = _parse(arguments)
    settings = settings or load_settings()
    database = Database(settings.database_url)
    keys = ApiKeys(database, settings.service_key)
    key = _kept(keys, settings, given.role) if given.command == "ensure" else None
    key = key or keys.create(KeyCreate(name=given.name, role=given.role)).key
    database.close()
    sys.stdout.write(f"{key}\n")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway.app.keys")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in (
        ("create", "make an API key"),
        ("ensure", "make an API key where FOVEA_API_KEY is none of this role"),
    ):
        command = commands.add_parser(name, help=does)
        command.add_argument("--name", required=True, help="who or what will use it")
        command.add_argument("--role", required=True, choices=get_args(Role))
    return parser.parse_args(arguments)


def _kept(keys: ApiKeys, settings: Settings, role: Role) -> str | None:
    """Return the key of the settings, if it opens and has this role."""
    if settings.api_key is None:
        return None
    key = settings.api_key.get_secret_value()
    try:
        return key if keys.look_up(digest(key)).role == role else None
    except Unauthorised:
        return None


if __name__ == "__main__":
    main()

"""`python -m gateway.app.keys create --name NAME --role admin`: make a key without having one."""

import argparse
import sys
from typing import get_args

from gateway.app.models.schemas import KeyCreate, Role
from gateway.app.services.keys import ApiKeys
from shared.database import Database
from shared.settings import Settings, load_settings


def main(arguments: list[str] | None = None, settings: Settings | None = None) -> None:
    """Make a key and write it to standard output, for the only time."""
    parser = argparse.ArgumentParser(prog="python -m gateway.app.keys")
    create = parser.add_subparsers(required=True).add_parser("create", help="make an API key")
    create.add_argument("--name", required=True, help="who or what will use it")
    create.add_argument("--role", required=True, choices=get_args(Role))
    given = parser.parse_args(arguments)
    settings = settings or load_settings()
    database = Database(settings.database_url)
    keys = ApiKeys(database, settings.service_key)
    new = keys.create(KeyCreate(name=given.name, role=given.role))
    database.close()
    sys.stdout.write(f"{new.key}\n")


if __name__ == "__main__":
    main()

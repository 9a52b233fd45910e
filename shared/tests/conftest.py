from shared.tests.postgres import database_url, postgres_server, postgres_url
from shared.tests.valkey import valkey_url

__all__ = ["database_url", "postgres_server", "postgres_url", "valkey_url"]

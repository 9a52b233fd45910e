"""Fixtures of the labelling service's tests."""

from shared.tests.postgres import database_url, postgres_server, postgres_url

__all__ = ["database_url", "postgres_server", "postgres_url"]

"""Names of projects that come in by a path or a query, where no schema checks them."""

from pydantic import TypeAdapter, ValidationError

from shared.errors import NotFound
from shared.models.data import Slug

_SLUG: TypeAdapter[str] = TypeAdapter(Slug)


def check_project_name(name: str) -> str:
    """Return the name, for no project has one that is no slug.

    Raises:
        NotFound: it is none; it is named.
    """
    try:
        return _SLUG.validate_python(name)
    except ValidationError as exc:
        raise unknown_project(name) from exc


def unknown_project(name: str) -> NotFound:
    """Return the error of a project that does not exist."""
    return NotFound(f"unknown project: {name!r}")

"""Results of replay simulations, kept with the project that they are about."""

from collections.abc import Sequence

from sqlalchemy import select

from labeling_service.app.core.gateway import Gateway
from labeling_service.app.models.errors import UnknownSimulation
from labeling_service.app.models.tables import SimulationRow
from shared.database import Database, utcnow
from shared.models.simulations import SimulationResults, SimulationView


class Simulations:
    """The simulations of all projects."""

    def __init__(self, database: Database, gateway: Gateway) -> None:
        """Keep results in `database`, and ask for projects through `gateway`."""
        self._database = database
        self._gateway = gateway

    def put(self, project: str, name: str, results: SimulationResults) -> SimulationView:
        """Keep results under a name, in place of those that have it.

        Raises:
            NotFound: the project does not exist.
        """
        self._gateway.project(project)
        row = SimulationRow(
            project=project,
            name=name,
            results=results.model_dump(mode="json"),
            created_at=utcnow(),
        )
        with self._database.transaction() as session:
            return _view(session.merge(row))

    def get(self, project: str, name: str) -> SimulationView:
        """Return the results that have this name.

        Raises:
            NotFound: the project does not exist.
            UnknownSimulation: the project has none of this name.
        """
        with self._database.transaction() as session:
            row = session.get(SimulationRow, (project, name))
            if row is not None:
                return _view(row)
        self._gateway.project(project)
        msg = f"unknown simulation: {name!r} of project {project!r}"
        raise UnknownSimulation(msg)

    def list(self, project: str) -> Sequence[SimulationView]:
        """Return all of the project, the newest first.

        Raises:
            NotFound: the project does not exist.
        """
        query = (
            select(SimulationRow)
            .where(SimulationRow.project == project)
            .order_by(SimulationRow.created_at.desc(), SimulationRow.name)
        )
        with self._database.transaction() as session:
            found = [_view(row) for row in session.scalars(query)]
        if not found:
            self._gateway.project(project)
        return found


def _view(row: SimulationRow) -> SimulationView:
    return SimulationView(
        project=row.project,
        name=row.name,
        results=SimulationResults.model_validate(row.results),
        created_at=row.created_at,
    )

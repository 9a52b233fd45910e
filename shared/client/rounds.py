"""Rounds, the tasks of those who label, and simulations."""

from shared.client.transport import Transport, at
from shared.models.rounds import AnswerCreate, LeaseCreate, RoundCreate, RoundView, TaskView
from shared.models.simulations import SimulationResults, SimulationView


class RoundCalls(Transport):
    """What labeling_service owns."""

    def create_round(self, project: str, request: RoundCreate) -> RoundView:
        """Start a round."""
        return self._post(at("projects", project, "rounds"), request, RoundView)

    def rounds(self, project: str) -> list[RoundView]:
        """Return every round, the oldest first."""
        return self._get_list(at("projects", project, "rounds"), RoundView)

    def round(self, project: str, round_id: str) -> RoundView:
        """Return one round."""
        return self._get(at("projects", project, "rounds", round_id), RoundView)

    def cancel_round(self, project: str, round_id: str) -> RoundView:
        """Cancel a round."""
        path = at("projects", project, "rounds", round_id, "cancellation")
        return self._post(path, None, RoundView)

    def tasks(self, project: str, round_id: str) -> list[TaskView]:
        """Return a round's tasks in the order of their rank."""
        return self._get_list(at("projects", project, "rounds", round_id, "tasks"), TaskView)

    def task(self, project: str, task_id: str) -> TaskView:
        """Return one task."""
        return self._get(at("projects", project, "tasks", task_id), TaskView)

    def lease_task(self, project: str, lease: LeaseCreate) -> TaskView:
        """Return the next open task, kept for this annotator for a while."""
        return self._post(at("projects", project, "leases"), lease, TaskView)

    def answer_task(self, project: str, task_id: str, answer: AnswerCreate) -> TaskView:
        """Save an answer; the same answer twice is fine."""
        path = at("projects", project, "tasks", task_id, "answer")
        response = self._send("PUT", path, json=answer, idempotent=True)
        return TaskView.model_validate_json(response.content)

    def put_simulation(self, project: str, name: str, results: SimulationResults) -> SimulationView:
        """Keep results of a simulation with a project; the same name again replaces them."""
        path = at("projects", project, "simulations", name)
        response = self._send("PUT", path, json=results, idempotent=True)
        return SimulationView.model_validate_json(response.content)

    def simulations(self, project: str) -> list[SimulationView]:
        """Return the simulations of a project, the newest first."""
        return self._get_list(at("projects", project, "simulations"), SimulationView)

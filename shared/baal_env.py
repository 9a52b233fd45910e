"""Baal's heuristics, imported without its side effect: it sets up structlog for the whole process.

It takes 2 to 10 s, so import this inside the function that needs it.
"""

import structlog

_logging = structlog.get_config()

from baal.active.heuristics import BALD, Certainty, Entropy, Margin, Variance  # noqa: E402

structlog.configure(**_logging)

__all__ = ["BALD", "Certainty", "Entropy", "Margin", "Variance"]

"""Dropout in the detection head, for Bayesian passes; no weight gets another name."""

from typing import Any

from torch import nn

from shared.detector.ultralytics_env import DetectionModel


def add_head_dropout(model: DetectionModel, p: float) -> None:
    """Put `Dropout2d(p)` behind the second convolution of every branch of the head, in place.

    The dropout joins the activation of a convolution block, so that the keys of `state_dict` stay
    what they are. In `eval` mode it does nothing. Called again, it changes only `p`.

    Args:
        model: a YOLOv8 detection model.
        p: probability of dropping a channel, in [0, 1); 0 takes the dropout away.

    Raises:
        ValueError: `p` is outside [0, 1).
    """
    if not 0 <= p < 1:
        msg = f"dropout must be in [0, 1): {p}"
        raise ValueError(msg)
    for block in _second_convolutions(model):
        activation = block.act[0] if isinstance(block.act, nn.Sequential) else block.act
        block.act = nn.Sequential(activation, nn.Dropout2d(p)) if p else activation
        block.act.train(block.training)


def head_dropout(model: DetectionModel) -> float:
    """Return the probability that `add_head_dropout` set; 0 where there is none."""
    found = (m for m in _second_convolutions(model)[0].act.modules() if isinstance(m, nn.Dropout2d))
    return next((m.p for m in found), 0.0)


def _second_convolutions(model: DetectionModel) -> list[Any]:
    head = model.model[-1]
    return [branch[1] for branch in (*head.cv2, *head.cv3)]

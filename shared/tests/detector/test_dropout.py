import pytest
import torch

from shared.detector.dropout import add_head_dropout, head_dropout
from shared.detector.info import Architecture
from shared.detector.package import build_model


def test_dropout_changes_no_key_and_eval_stays_deterministic() -> None:
    torch.manual_seed(0)
    model = build_model(Architecture(width_multiple=0.125), ("a", "b"))
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        before, keys = model(image)[0], list(model.state_dict())
        add_head_dropout(model, 0.3)
        assert list(model.state_dict()) == keys
        after = model(image)[0]
        assert torch.equal(model(image)[0], after)
    # Boxes are in pixels; the order of additions may change with the memory layout.
    torch.testing.assert_close(after, before, rtol=0, atol=1e-3)
    assert sum(isinstance(m, torch.nn.Dropout2d) for m in model.modules()) == 6


def test_dropout_is_set_again_not_added_again() -> None:
    model = build_model(Architecture(width_multiple=0.125), ("a",))
    add_head_dropout(model, 0.3)
    add_head_dropout(model, 0.1)
    assert head_dropout(model) == 0.1
    assert sum(isinstance(m, torch.nn.Dropout2d) for m in model.modules()) == 6
    add_head_dropout(model, 0)
    assert head_dropout(model) == 0
    assert not any(isinstance(m, torch.nn.Dropout2d) for m in model.modules())


def test_passes_differ_while_dropout_is_on() -> None:
    torch.manual_seed(0)
    model = build_model(Architecture(width_multiple=0.125), ("a", "b"))
    add_head_dropout(model, 0.5)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.train()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert not torch.equal(model(image)[0], model(image)[0])


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_a_probability_outside_its_range_is_refused(p: float) -> None:
    model = build_model(Architecture(width_multiple=0.125), ("a",))
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\)"):
        add_head_dropout(model, p)

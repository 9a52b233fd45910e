"""The state of a simulation: gone on from by an equal one alone."""

import shutil
from pathlib import Path

import pytest

from shared.simulate.options import SimulationOptions
from shared.simulate.state import Stamp, content_hash, discard, prepare, require_own


def stamp(**changes: object) -> Stamp:
    options = SimulationOptions(data=Path("data")).model_copy(update=changes)
    return Stamp(settings=options.settings(), content_hash="0" * 64)


def test_an_equal_simulation_goes_on(tmp_path: Path) -> None:
    prepare(tmp_path / "state", stamp())
    (tmp_path / "state" / "fovea.db").write_text("start")
    # More seeds or strategies do not change what there is.
    prepare(tmp_path / "state", stamp(seeds=9, strategies=("random", "badge")))
    assert (tmp_path / "state" / "fovea.db").exists()
    require_own(tmp_path / "state")


@pytest.mark.parametrize(
    "other", [stamp(start=9), stamp().model_copy(update={"content_hash": "1" * 64})]
)
def test_what_another_left_is_removed(other: Stamp, tmp_path: Path) -> None:
    prepare(tmp_path / "state", stamp())
    (tmp_path / "state" / "fovea.db").write_text("start")
    prepare(tmp_path / "state", other)
    assert not (tmp_path / "state" / "fovea.db").exists()
    prepare(tmp_path / "state", other)
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["simulation.json"]


def test_a_state_that_was_half_removed_is_not_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path / "state", stamp())
    (tmp_path / "state" / "fovea.db").write_text("start")

    def killed(path: Path, **_: bool) -> None:
        if path.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            discard(tmp_path / "state")
    assert not (tmp_path / "state").exists()
    prepare(tmp_path / "state", stamp())
    discard(tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


def test_data_is_its_files_names_and_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, names in ((first, ("z.txt", "a/x.jpg")), (second, ("a/x.jpg", "z.txt"))):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
    (second / ".DS_Store").write_text("of this machine")
    (second / "labels.cache").write_text("of another program")
    assert content_hash(first) == content_hash(second)
    (second / "z.txt").write_text("1 0.5 0.5 0.1 0.1")
    corrected = content_hash(second)
    assert corrected != content_hash(first)
    (second / "z.txt").rename(second / "y.txt")
    assert content_hash(second) not in {corrected, content_hash(first)}
    # A zip is one file, wherever it lies.
    shutil.copy(first / "z.txt", tmp_path / "again.txt")
    assert content_hash(first / "z.txt") == content_hash(tmp_path / "again.txt")

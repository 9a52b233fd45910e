from pathlib import Path

import pytest

from shared.errors import Conflict
from shared.local.lock import exclusive
from shared.tests.local.processes import HOLDS_LOCK, member


def test_a_lock_that_another_process_holds_is_refused_in_the_given_words(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        member(tmp_path, HOLDS_LOCK, str(path)),
        pytest.raises(Conflict, match="somebody is here"),
        exclusive(path, Conflict("somebody is here")),
    ):
        pytest.fail("the lock was had twice")


def test_a_lock_ends_with_the_process_that_held_it_however_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with member(tmp_path, HOLDS_LOCK, str(path)) as holder:
        holder.kill()
        holder.wait()
        with exclusive(path, Conflict("taken")):
            pass


def test_a_lock_is_free_after_the_block_also_when_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), exclusive(path, Conflict("taken")):
        _ = 1 / 0
    with exclusive(path, Conflict("taken")):
        pass


def test_what_the_holder_starts_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path, Conflict("taken")):
        child = member(tmp_path, "import time; print('up', flush=True); time.sleep(120)")
        process = child.__enter__()
    try:
        assert process.poll() is None
        with exclusive(path, Conflict("taken")):
            pass
    finally:
        child.__exit__(None, None, None)

"""What the embedded stack tells its processes."""

import json
from pathlib import Path

from shared.local.programs import DEFAULT_PORTS
from shared.local.stack import EmbeddedStack
from shared.settings import load_settings


def test_every_process_can_read_the_settings_of_the_stack(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"ports": DEFAULT_PORTS}))
    settings = load_settings(EmbeddedStack(tmp_path).settings())
    assert settings.gateway_url == f"http://127.0.0.1:{DEFAULT_PORTS['gateway']}"
    assert settings.state_dir == tmp_path

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def secrets(folder: Path) -> str:
    (folder / "scripts").mkdir(exist_ok=True)
    shutil.copy(ROOT / "scripts" / "compose.sh", folder / "scripts")
    shutil.copy(ROOT / ".env.example", folder)
    subprocess.run(["bash", "scripts/compose.sh", "secrets"], cwd=folder, check=True)
    return (folder / ".env").read_text()


def test_every_empty_value_becomes_a_secret_of_its_own(tmp_path: Path) -> None:
    written = secrets(tmp_path)
    assert re.findall(r"^[A-Z_]+=$", written, re.MULTILINE) == []
    made = re.findall(r"^[A-Z0-9_]+=([0-9a-f]{64})$", written, re.MULTILINE)
    assert len(made) == len(set(made)) >= 5
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0


def test_secrets_are_made_once(tmp_path: Path) -> None:
    assert secrets(tmp_path) == secrets(tmp_path)

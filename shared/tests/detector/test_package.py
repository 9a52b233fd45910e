import json
from pathlib import Path

import pytest
import torch

from shared.detector.dropout import add_head_dropout, head_dropout
from shared.detector.info import Architecture, CorruptPackage, PackageInfo
from shared.detector.package import (
    PackageOptions,
    UnknownBase,
    build_model,
    load_package,
    new_model,
    save_package,
)

NARROW = Architecture(width_multiple=0.125)
OPTIONS = PackageOptions(image_size=64, base="scratch")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    torch.manual_seed(0)
    model = build_model(NARROW, ("cell", "platelet"))
    add_head_dropout(model, 0.25)
    save_package(model, folder, OPTIONS)
    return folder


def copy_of(package: Path, folder: Path) -> Path:
    for file in package.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_package_comes_back_as_it_was_saved(package: Path, tmp_path: Path) -> None:
    model, info = load_package(package)
    again = save_package(model, tmp_path, OPTIONS)
    assert info.classes == ("cell", "platelet")
    assert info.image_size == 64
    assert info.architecture == NARROW
    assert head_dropout(model) == info.dropout == 0.25
    assert not model.training
    assert again == info


def test_half_precision_packages_load_as_single_precision(package: Path, tmp_path: Path) -> None:
    model, _ = load_package(package)
    save_package(model, tmp_path, PackageOptions(64, "scratch", half=True))
    half, _ = load_package(tmp_path)
    assert next(half.parameters()).dtype == torch.float32
    size, full = ((f / "weights.safetensors").stat().st_size for f in (tmp_path, package))
    assert size < 0.6 * full


def test_weights_that_changed_are_refused_by_name(package: Path, tmp_path: Path) -> None:
    copy_of(package, tmp_path)
    path = tmp_path / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptPackage, match=r"weights\.safetensors: SHA-256 is"):
        load_package(tmp_path)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_missing_file_is_named(package: Path, tmp_path: Path, name: str) -> None:
    (copy_of(package, tmp_path) / name).unlink()
    with pytest.raises(CorruptPackage, match=f"missing file of a model package: .*{name}"):
        load_package(tmp_path)


def test_weights_of_another_network_are_refused(package: Path, tmp_path: Path) -> None:
    copy_of(package, tmp_path)
    path = tmp_path / "model.json"
    info = PackageInfo.model_validate_json(path.read_bytes())
    path.write_text(info.model_copy(update={"architecture": Architecture()}).model_dump_json())
    with pytest.raises(CorruptPackage, match="weights do not fit the network"):
        load_package(tmp_path)


def test_an_architecture_cannot_carry_code(package: Path, tmp_path: Path) -> None:
    copy_of(package, tmp_path)
    path = tmp_path / "model.json"
    info = json.loads(path.read_text())
    info["architecture"]["activation"] = "print('run')"
    path.write_text(json.dumps(info))
    with pytest.raises(
        CorruptPackage,
        match=r"model\.json: architecture\.activation: Extra inputs are not permitted",
    ):
        load_package(tmp_path)


def test_all_but_the_class_head_is_taken_from_a_base(package: Path, tmp_path: Path) -> None:
    base = load_package(package)[0].state_dict()
    own = new_model(("a", "b", "c"), str(package), tmp_path, NARROW).state_dict()
    differing = {key for key in own if own[key].shape != base[key].shape}
    assert differing == {
        f"model.22.cv3.{i}.2.{kind}" for i in range(3) for kind in ("weight", "bias")
    }
    assert all(torch.equal(own[key], base[key]) for key in own.keys() - differing)


def test_an_unknown_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownBase, match="unknown base model: 'resnet'"):
        new_model(("a",), "resnet", tmp_path, NARROW)


def test_a_downloaded_base_is_kept_in_its_folder_and_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = build_model(NARROW, ("cell",))
    downloaded: list[Path] = []

    def download(*, url: str, file: Path, min_bytes: float) -> None:
        assert url.endswith("/yolov8n.pt")
        assert min_bytes
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": official}, file)
        downloaded.append(file)

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("ultralytics.utils.downloads.safe_download", download)
    for _ in range(2):
        own = new_model(("a",), "yolov8n.pt", Path("../bases"), NARROW).state_dict()
    assert downloaded == [tmp_path / "bases" / "yolov8n.pt"]
    assert list((tmp_path / "here").iterdir()) == []
    assert all(torch.equal(own[key], value) for key, value in official.state_dict().items())

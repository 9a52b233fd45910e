"""`fovea similar`, `map` and `duplicates` against the real services on real sockets."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

import data_service.app.main
import gateway.app.main
import inference_service.app.main
from data_service.app.models.tables import ImageRow
from gateway.tests.upstream import serving
from inference_service.app.wiring import Dependencies, Neighbours, build, build_worker
from inference_service.tests.neighbours import PROJECT, LocalGateway, LocalRegistry, score
from inference_service.tests.tiny import CLASSES, picture, png
from shared.cli.main import app
from shared.cli.search import image_id_of_name
from shared.client import GatewayClient
from shared.database import Base, Database
from shared.errors import BadRequest
from shared.models.data import ImageView, ProjectCreate
from shared.models.registry import ScoringCreate
from shared.objects.wiring import object_store
from shared.settings import Settings

N_IMAGES = 6


@dataclass
class House:
    """Three services, and six images that the versions 1 and 2 scored."""

    client: GatewayClient
    images: list[ImageView]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    settings = Settings(
        state_dir=tmp_path / "state",
        database_url=f"sqlite:///{tmp_path}/fovea.db",
        object_store_url=f"file:{tmp_path}/objects",
        vector_store_url=f"lancedb:{tmp_path}/vectors",
        broker_url="redis://127.0.0.1:1/0",
        engine="onnxruntime",
        threads=1,
    )
    database = Database(settings.database_url)
    Base.metadata.create_all(database.engine)
    registry = LocalRegistry(tmp_path / "registry")
    registry.add(1)
    registry.add(2)
    stored = LocalGateway(object_store(settings))
    for index in range(N_IMAGES):
        add_image(stored, index)
    neighbours = Neighbours(stored, registry)

    def build_here(settings: Settings) -> Dependencies:
        return build(settings, neighbours)

    with (
        serving(data_service.app.main.create_app(settings)) as data_url,
        serving(inference_service.app.main.create_app(settings, build_here)) as inference_url,
    ):
        urls = {"data_url": data_url, "inference_url": inference_url}
        with serving(gateway.app.main.create_app(settings.model_copy(update=urls))) as url:
            monkeypatch.setenv("FOVEA_GATEWAY_URL", url)
            monkeypatch.setenv("FOVEA_API_KEY", settings.service_key.get_secret_value())
            monkeypatch.chdir(tmp_path)
            client = GatewayClient(url, settings.service_key)
            client.create_project(ProjectCreate(name=PROJECT, classes=CLASSES))
            with database.transaction() as session:
                session.add_all(map(row_of, stored.images.values()))
            worker = build_worker(settings, neighbours)
            for version in (1, 2):
                score(worker.scorer, ScoringCreate(model_version=version))
            yield House(client, list(stored.images.values()))
            client.close()
    database.close()


def add_image(stored: LocalGateway, index: int) -> None:
    """Add an image with an id as images have, of which the last two start alike."""
    added = stored.add(index)
    digest = hashlib.sha256(bytes([index])).hexdigest()
    image_id = "f00d" + digest[4:] if index >= N_IMAGES - 2 else digest
    del stored.images[added.id]
    stored.images[image_id] = added.model_copy(
        update={"id": image_id, "name": f"scene-{index}.png"}
    )


def row_of(image: ImageView) -> ImageRow:
    return ImageRow(
        project=PROJECT,
        **image.model_dump(exclude={"duplicate_group"}),
        duplicate_group="twins" if image.id.startswith("f00d") else None,
        orientation=1,
        original_key=image.key,
        ingestion_id="i",
    )


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 1, done.output
    return done.stderr


def test_an_id_as_it_is_printed_is_understood(house: House) -> None:
    image = house.images[1]
    (line,) = (line for line in said("similar", "scene-0").splitlines() if image.name in line)
    printed = line.split()[-2]
    assert printed == image.id[:12]
    assert image_id_of_name(house.client, PROJECT, printed) == image.id
    assert said("similar", printed) == said("similar", image.id)
    (line,) = (line for line in said("duplicates").splitlines() if "scene-5" in line)
    assert line.split()[-2] == house.images[5].id[:12]


def test_the_start_of_several_ids_is_refused_with_all_of_them(house: House) -> None:
    twins = sorted(house.images[-2:], key=lambda image: image.id)
    names = ", ".join(f"{image.name} ({image.id})" for image in twins)
    with pytest.raises(BadRequest) as refusal:
        image_id_of_name(house.client, PROJECT, "f00d")
    assert str(refusal.value) == (
        f"2 stored images (and no file) have an id that starts with 'f00d': {names}"
    )


def test_a_version_is_asked_where_one_is_named(house: House) -> None:
    assert house
    assert "that model v2 scored" in said("similar", "scene-0")
    assert "that model v1 scored" in said("similar", "scene-0", "--model", "1")
    assert "that model v1 scored" in said("similar", "scene-0", "--model", "1", "--box", "0")


def test_a_version_is_refused_of_what_only_the_production_model_looks_at(
    house: House, tmp_path: Path
) -> None:
    assert house
    (tmp_path / "mine.png").write_bytes(png(picture(1)))
    for image in (("mine.png",), ("scene-0", "--xyxy", "0,0,1,1")):
        assert "--model needs a stored image" in refused("similar", *image, "--model", "1")


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ("map.txt", "must end in .png, .jpg, .jpeg, .webp, .svg, .pdf: 'map.txt'"),
        ("map", "must end in .png, .jpg, .jpeg, .webp, .svg, .pdf: 'map'"),
        ("shots.png", "is a folder, say which file in it: 'shots.png'"),
    ],
)
def test_a_map_that_cannot_be_written_is_refused_before_its_job(
    house: House, tmp_path: Path, output: str, error: str
) -> None:
    (tmp_path / "shots.png").mkdir()
    assert refused("map", "--output", output) == f"error: --output {error}\n"
    assert house.client.jobs(project=PROJECT) == []


def test_a_map_of_a_version_that_is_not_there_is_refused_at_once(house: House) -> None:
    error = f"error: unknown model version: 99 of project {PROJECT!r}\n"
    assert refused("map", "--model", "99") == error
    assert house.client.jobs(project=PROJECT) == []

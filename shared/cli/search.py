"""`fovea score similar map duplicates`: look through images by what they show."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shared.cli.context import connect, console, follow, pick_project, told_errors
from shared.cli.data import Project
from shared.client import GatewayClient
from shared.errors import BadRequest
from shared.map_colours import MapColour, colours_of
from shared.models.data import SPLITS, ImageView
from shared.models.registry import ScoringCreate, ScoringResult
from shared.models.search import MapCreate, MapMethod, SimilarImages, SimilarObjects

ID_LENGTH = 64
# Of an id that is printed; any start of one that no other image has is understood.
ID_START = 12


@dataclass(frozen=True)
class Asked:
    """What of an image is looked for, as which model sees it (unset: the usual), and how many."""

    box: int | None
    xyxy: str | None
    model: int | None
    k: int


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("map")(map_)
    for command in (score, similar, duplicates):
        app.command()(command)


def score(
    project: Project = None,
    model: Annotated[int | None, typer.Option(help="Model version; unset: production.")] = None,
    splits: Annotated[str, typer.Option(help="By commas.")] = ",".join(SPLITS),
) -> None:
    """Look at stored images with a model, for search, map and the next round."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        version = client.aliases(name).production if model is None else model
        if version is None:
            msg = f"project {name!r} has no production model: say which by --model"
            raise BadRequest(msg)
        request = {"model_version": version, "splits": splits.split(",")}
        job = client.score(name, ScoringCreate.model_validate(request))
        done = ScoringResult.model_validate(follow(client, job, "score").result)
        console.print(
            f"model v{version}: {done.n_scored} images scored, {done.n_known} known already"
        )


def similar(
    image: Annotated[
        str, typer.Argument(help="A file, or a stored image by its name or id, or a part of it.")
    ],
    project: Project = None,
    box: Annotated[
        int | None, typer.Option(help="Objects like this predicted box of a stored image, from 0.")
    ] = None,
    xyxy: Annotated[
        str | None, typer.Option(help="Objects like this region: x1,y1,x2,y2 in [0, 1].")
    ] = None,
    model: Annotated[
        int | None,
        typer.Option(min=0, help="Model version; unset: the newest that scored the stored image."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many.")] = 10,
) -> None:
    """Find stored images like an image, or predicted objects like one of its boxes."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        found = _similar(client, name, image, Asked(box, xyxy, model, k))
        table = Table("distance", "image", "split", "id")
        if isinstance(found, SimilarObjects):
            table = Table("distance", "class", "score", "image", "box", "split", "id")
            classes = client.project(name).classes
            for seen in found.objects:
                told = client.image(name, seen.image_id).name
                table.add_row(
                    f"{seen.distance:.4f}", classes[seen.class_id], f"{seen.score:.2f}", told,
                    str(seen.box), seen.split, seen.image_id[:ID_START],
                )  # fmt: skip
        else:
            for near in found.images:
                told = client.image(name, near.image_id).name
                table.add_row(f"{near.distance:.4f}", told, near.split, near.image_id[:ID_START])
        console.print(table)
        kind = "boxes" if isinstance(found, SimilarObjects) else "images"
        console.print(f"of {found.n_searched} {kind} that model v{found.model_version} scored")


def map_(
    project: Project = None,
    by: Annotated[MapColour, typer.Option(help="What the colours mean.")] = "class",
    method: Annotated[MapMethod, typer.Option(help="How it is laid out.")] = "umap",
    model: Annotated[
        int | None, typer.Option(help="Model version; unset: the one that scored most.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Picture to write.")] = Path("map.png"),
) -> None:
    """Lay the images out by what they show, and draw that."""
    from shared.cli.map_picture import check_picture, draw_map

    with told_errors():
        check_picture(output)
        client = connect()
        name = pick_project(client, project)
        job = client.make_map(name, MapCreate(model_version=model, method=method))
        follow(client, job, "map")
        found = client.newest_map(name)
        classes = client.project(name).classes
        colours = colours_of(found, by, classes, rounds_of(client, name))
        draw_map(found, colours, classes if by == "class" else (), output)
        console.print(
            f"wrote {output}: {len(found.points)} of {found.n_images} images, "
            f"model v{found.model_version}, {found.method}",
            soft_wrap=True,
        )


def duplicates(
    project: Project = None,
    crossing: Annotated[
        bool, typer.Option("--crossing", help="Only groups that lie in different splits.")
    ] = False,
) -> None:
    """List groups of near-duplicates."""
    with told_errors():
        client = connect()
        name = pick_project(client, project)
        n_groups, cursor = 0, None
        table = Table("group", "images", "split", "name", "id")
        while True:
            page = client.duplicates(name, cursor=cursor)
            for group in page.groups:
                if crossing and not group.crosses:
                    continue
                n_groups += 1
                for n, image in enumerate(group.images):
                    first = (group.name[:ID_START], str(len(group.images))) if n == 0 else ("", "")
                    table.add_row(*first, image.split, image.name, image.id[:ID_START])
            cursor = page.next_cursor
            if cursor is None:
                break
        if n_groups:
            console.print(table)
        console.print(f"{n_groups} groups of near-duplicates")


def rounds_of(client: GatewayClient, project: str) -> Mapping[str, int]:
    """Return the number of the round that chose each image."""
    return {
        chosen.image_id: found.index
        for found in client.rounds(project)
        for chosen in found.selected
    }


def _similar(
    client: GatewayClient, project: str, image: str, asked: Asked
) -> SimilarImages | SimilarObjects:
    file, k = Path(image), asked.k
    _refuse_what_does_not_fit(asked, is_file=file.is_file())
    if asked.xyxy is not None:
        data = file.read_bytes() if file.is_file() else None
        if data is None:
            data = client.image_content(project, image_id_of_name(client, project, image))
        return client.objects_like(project, data, _corners(asked.xyxy), name=file.name, k=k)
    if file.is_file():
        return client.images_like(project, file.read_bytes(), name=file.name, k=k)
    image_id, version = image_id_of_name(client, project, image), asked.model
    if asked.box is not None:
        return client.similar_objects(project, image_id, asked.box, k=k, model_version=version)
    return client.similar_images(project, image_id, k=k, model_version=version)


def _refuse_what_does_not_fit(asked: Asked, *, is_file: bool) -> None:
    msg = None
    if asked.box is not None and asked.xyxy is not None:
        msg = "give --box or --xyxy, not both"
    elif asked.box is not None and is_file:
        msg = "--box needs a stored image; of a file say where by --xyxy"
    elif asked.model is not None and (is_file or asked.xyxy is not None):
        msg = "--model needs a stored image; a file or --xyxy is looked at by the production model"
    if msg is not None:
        raise BadRequest(msg)


def image_id_of_name(client: GatewayClient, project: str, text: str) -> str:
    """Return the id of the one stored image that is meant: by part of its name, or its id's start.

    Raises:
        BadRequest: none is, or several are.
    """
    if len(text) == ID_LENGTH:
        return text
    found, how = _called(client, project, text), "are called"
    if not found and (with_id := _with_id(client, project, text)):
        found, how = with_id, "have an id that starts with"
    if len(found) != 1:
        names = ", ".join(f"{image.name} ({image.id})" for image in found[:5]) or "none"
        msg = f"{len(found)} stored images (and no file) {how} {text!r}: {names}"
        raise BadRequest(msg)
    return found[0].id


def _called(client: GatewayClient, project: str, text: str) -> list[ImageView]:
    same: list[ImageView] = []
    alike: list[ImageView] = []
    for image in client.iter_images(project, name=text):
        (same if image.name == text else alike).append(image)
    return same or alike


def _with_id(client: GatewayClient, project: str, start: str) -> list[ImageView]:
    # They come in the order of their ids, and what an id starts with is before it.
    images = client.iter_images(project, after=start)
    return list(takewhile(lambda image: image.id.startswith(start), images))


def _corners(text: str) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError as exc:
        msg = f"--xyxy must be x1,y1,x2,y2: {text!r}"
        raise BadRequest(msg) from exc
    return x1, y1, x2, y2

"""Names in paths: whatever a name holds, it asks for that name and nothing else."""

from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from gateway.tests.upstream import serving
from shared.client import GatewayClient
from shared.client.transport import at
from shared.errors import NotFound

ASKED: list[tuple[str, bytes, bytes]] = []


async def remember(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer nothing, and remember the path as it is read, as it came, and the query."""
    if scope["type"] == "http":
        ASKED.append((scope["path"], scope["raw_path"], scope["query_string"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    else:
        await receive()
        await send({"type": "lifespan.startup.complete"})


@pytest.fixture
def client() -> Iterator[GatewayClient]:
    ASKED.clear()
    with serving(remember) as url:
        client = GatewayClient(url, "key")
        yield client
        client.close()


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a1", b"a1"),
        ("a?x=1", b"a%3Fx%3D1"),
        ("a#x", b"a%23x"),
        ("a%2Fb", b"a%252Fb"),
        ("a\0", b"a%00"),
        ("My Farm", b"My%20Farm"),
        ("é..", b"%C3%A9.."),
    ],
)
def test_a_name_arrives_as_it_is(client: GatewayClient, name: str, raw: bytes) -> None:
    client.image_content("farm", name)
    (asked,) = ASKED
    assert asked == (
        f"/v1/projects/farm/images/{name}/content",
        b"/v1/projects/farm/images/" + raw + b"/content",
        b"",
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../../keys", "/"])
def test_a_name_that_would_be_another_path_is_not_found_and_nobody_asked(
    client: GatewayClient, name: str
) -> None:
    with pytest.raises(NotFound, match="unknown name: "):
        client.image("farm", name)
    assert ASKED == []


def test_a_path_has_its_parts_in_order() -> None:
    assert at("projects", "farm", "models", 7) == "/v1/projects/farm/models/7"


def test_a_name_that_is_no_text_arrives_as_another(client: GatewayClient) -> None:
    client.image_content("farm", "a\udcff")
    assert [raw for _, raw, _ in ASKED] == [b"/v1/projects/farm/images/a%3F/content"]

"""Runs pages against the made-up gateway."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.tests.neighbour import KEY, gateway_app, serve
from dashboard.tests.world import World

OpenPage = Callable[..., AppTest]


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenPage]:
    """Return a function that runs a page against a world, or against an address."""
    for name in list(os.environ):
        if name.startswith("FOVEA_"):
            monkeypatch.delenv(name)
    st.cache_data.clear()
    st.cache_resource.clear()
    with ExitStack() as servers:

        def run(page: str, world: World | str, key: str | None = KEY) -> AppTest:
            url = (
                world
                if isinstance(world, str)
                else servers.enter_context(serve(gateway_app(world)))
            )
            monkeypatch.setenv("FOVEA_GATEWAY_URL", url)
            if key is not None:
                monkeypatch.setenv("FOVEA_API_KEY", key)
            script = (
                "from dashboard.session import show\n"
                f"from dashboard.views import {page}\n"
                f"show({page}.page)\n"
            )
            return AppTest.from_string(script, default_timeout=30).run()

        yield run

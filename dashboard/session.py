"""What every page needs: settings, client, the chosen project, plain words for errors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import streamlit as st

from shared.client import GatewayClient
from shared.errors import AppError, BackendUnavailable, Forbidden, NotFound, Unauthorised
from shared.models.data import DatasetManifest, ProjectView
from shared.models.geometry import Annotation
from shared.settings import Settings, load_settings

PROJECT = "project"
# The stored image that the Search page looks for, and that page itself.
SEARCH_IMAGE, SEARCH_PAGE = "search-image", "search-page"
LookFor = Callable[[str], None]


@dataclass(frozen=True)
class Desk:
    """What a page works with."""

    settings: Settings
    client: GatewayClient
    project: ProjectView

    @property
    def name(self) -> str:
        """Return the project's name."""
        return self.project.name


def show(page: Callable[[Desk], None]) -> None:
    """Run a page for the chosen project; whatever is wrong is said in plain words."""
    try:
        settings = load_settings()
    except ValueError as exc:
        st.error(f"The settings are wrong: {exc}", icon=":material/settings_alert:")
        return
    with plain_words():
        client = _client(settings)
        if client is None:
            _no_key(settings)
            return
        name = _pick_project(client)
        if name is None:
            _no_project()
            return
        page(Desk(settings, client, client.project(name)))


@contextmanager
def plain_words(where: str = "page") -> Iterator[None]:
    """Turn an error of the gateway into words, in place of what raised it; `where` is unique."""
    try:
        yield
    except BackendUnavailable as exc:
        st.error(f"**A part of Fovea does not answer.** {exc}", icon=":material/cloud_off:")
        st.markdown(
            "On this machine, `make local` starts everything; `fovea doctor` says what is wrong. "
            "With containers it is `make up`. Nothing is lost in the meantime."
        )
        st.button("Try again", key=f"again-{where}", icon=":material/refresh:")
    except Unauthorised as exc:
        st.error(f"**The gateway does not know this API key.** {exc}", icon=":material/key_off:")
        st.markdown(
            "Start the dashboard with `FOVEA_API_KEY` set to a key that exists. "
            "`make local` makes one and hands it over by itself."
        )
    except Forbidden as exc:
        st.error(f"**This API key may not do that.** {exc}", icon=":material/lock:")
    except NotFound as exc:
        st.warning(f"**Not there (any more).** {exc}", icon=":material/search_off:")
    except AppError as exc:
        st.error(f"**That did not work.** {exc}", icon=":material/error:")


def attempt(action: Callable[[], object], success: str) -> bool:
    """Do what a button asks for; say how it went, and tell whether it went well."""
    try:
        action()
    except AppError as exc:
        st.error(f"That did not work: {exc}", icon=":material/error:")
        return False
    st.toast(success, icon=":material/check:")
    return True


@st.cache_data(max_entries=2000, show_spinner=False)
def thumbnail(_client: GatewayClient, project: str, image_id: str) -> bytes:
    """Return an image's thumbnail; an image never changes."""
    return _client.thumbnail(project, image_id)


@st.cache_data(max_entries=2000, show_spinner=False)
def short_name(_client: GatewayClient, project: str, image_id: str) -> str:
    """Return an image's name without its folder; it never changes."""
    return _client.image(project, image_id).name.rsplit("/", 1)[-1]


@st.cache_data(max_entries=50, show_spinner=False)
def content(_client: GatewayClient, project: str, image_id: str) -> bytes:
    """Return an image; it never changes."""
    return _client.image_content(project, image_id)


@st.cache_resource(max_entries=4, show_spinner=False)
def _labels_of_version(
    _client: GatewayClient, project: str, version: int
) -> dict[str, tuple[Annotation, ...]]:
    manifest: DatasetManifest = _client.manifest(project, version)
    return {item.image_id: item.annotations for item in manifest.items}


def labels(desk: Desk, image_id: str) -> tuple[Annotation, ...] | None:
    """Return an image's labels in the newest dataset version; None if it has none there."""
    version = desk.project.latest_version
    if version is None:
        return None
    return _labels_of_version(desk.client, desk.name, version).get(image_id)


def _client(settings: Settings) -> GatewayClient | None:
    if settings.api_key is None:
        return None
    return _cached_client(settings.gateway_url, settings.api_key.get_secret_value())


@st.cache_resource(show_spinner=False)
def _cached_client(url: str, key: str) -> GatewayClient:
    return GatewayClient(url, key)


def _pick_project(client: GatewayClient) -> str | None:
    names = [project.name for project in client.projects()]
    if not names:
        return None
    # A page change drops the query, so the session remembers; a reload drops the session.
    wanted = st.session_state.get("chosen-project") or st.query_params.get(PROJECT)
    index = names.index(wanted) if wanted in names else 0
    chosen = str(st.sidebar.selectbox("Project", names, index=index))
    st.session_state["chosen-project"] = chosen
    st.query_params[PROJECT] = chosen
    return chosen


def _no_project() -> None:
    st.info("**There is no project yet.** Make one and put images into it:", icon=":material/add:")
    st.code(
        "fovea project create pets --classes cat,dog\nfovea ingest path/to/images --project pets",
        language="bash",
    )
    st.caption("YOLO, COCO and PASCAL VOC folders or zips, or images alone. Then reload this page.")
    st.button("Look again", key="again-no-project", icon=":material/refresh:")


def _no_key(settings: Settings) -> None:
    st.error("**The dashboard has no API key.**", icon=":material/key_off:")
    st.markdown(
        f"Set `FOVEA_API_KEY` to a key of the gateway at `{settings.gateway_url}` and start the "
        "dashboard again. `make local` does this by itself."
    )

"""Groups of near-duplicates."""

import streamlit as st

from dashboard.session import Desk, thumbnail
from shared.models.search import DuplicateGroup, DuplicateGroups

PAGE_SIZE = 20
# Most of the groups are asked for at a time where few of them are shown.
MOST_ASKED = 500
N_COLUMNS = 8
CURSORS = "duplicate-cursors"


def show(desk: Desk) -> None:
    """Show the groups, a page at a time."""
    st.caption(
        "Images that look the same by a perceptual hash, as found when they came in. A split of "
        "our own never cuts a group; lists that came with the data may."
    )
    crossing = st.toggle("Only groups that lie in different splits")
    key = f"{CURSORS}-{desk.name}-{crossing}"
    cursors: list[str | None] = st.session_state.setdefault(key, [None])
    if crossing:
        page = _crossing(desk, cursors[-1])
    else:
        page = desk.client.duplicates(desk.name, cursor=cursors[-1], limit=PAGE_SIZE)
    if not page.groups:
        where = " in different splits" if crossing else ""
        st.success(f"No near-duplicates{where}.", icon=":material/check_circle:")
    for group in page.groups:
        _group(desk, group)
    with st.container(horizontal=True):
        st.button("Back", disabled=len(cursors) == 1, on_click=_go_back, args=(cursors,))
        st.button(
            "More",
            disabled=page.next_cursor is None,
            on_click=cursors.append,
            args=(page.next_cursor,),
        )


def _crossing(desk: Desk, cursor: str | None) -> DuplicateGroups:
    """Return the next groups that lie in different splits; a group's name is its cursor."""
    found: list[DuplicateGroup] = []
    while len(found) <= PAGE_SIZE:
        page = desk.client.duplicates(desk.name, cursor=cursor, limit=MOST_ASKED)
        found += [group for group in page.groups if group.crosses]
        cursor = page.next_cursor
        if cursor is None:
            break
    shown, more = found[:PAGE_SIZE], found[PAGE_SIZE:]
    return DuplicateGroups(groups=tuple(shown), next_cursor=shown[-1].name if more else None)


def _go_back(cursors: list[str | None]) -> None:
    cursors.pop()


def _group(desk: Desk, group: DuplicateGroup) -> None:
    with st.container(border=True):
        words = f"**{len(group.images)} images**"
        if group.crosses:
            splits = ", ".join(sorted({image.split for image in group.images}))
            words += f" · :orange[in different splits: {splits}]"
        st.markdown(words)
        for column, image in zip(st.columns(N_COLUMNS), group.images, strict=False):
            with column:
                st.image(thumbnail(desk.client, desk.name, image.id), width="stretch")
                st.caption(f"{image.name.rsplit('/', 1)[-1]} · {image.split}")
        if len(group.images) > N_COLUMNS:
            st.caption(f"and {len(group.images) - N_COLUMNS} more")

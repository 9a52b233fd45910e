"""The dashboard: `python -m streamlit run dashboard/app.py` from the repository's root."""

from functools import partial

import streamlit as st

from dashboard.session import SEARCH_PAGE, show
from dashboard.views import annotate, curve, drift, images, loop, search, try_it

st.set_page_config(page_title="Fovea", page_icon=":material/visibility:", layout="wide")
# Streamlit leaves the room of a toolbar that is not shown.
st.html("<style>.stMainBlockContainer{padding-top:2.5rem;padding-bottom:2rem}</style>")
search_page = st.Page(
    partial(show, search.page), title="Search", icon=":material/search:", url_path="search"
)
st.session_state[SEARCH_PAGE] = search_page
pages = {
    "Run": [
        st.Page(
            partial(show, loop.page),
            title="Loop",
            icon=":material/cycle:",
            default=True,
        ),
        st.Page(
            partial(show, curve.page),
            title="Learning curve",
            icon=":material/show_chart:",
            url_path="learning-curve",
        ),
        st.Page(
            partial(show, drift.page), title="Drift", icon=":material/monitoring:", url_path="drift"
        ),
    ],
    "Look": [
        st.Page(
            partial(show, images.page),
            title="Images",
            icon=":material/photo_library:",
            url_path="images",
        ),
        search_page,
        st.Page(
            partial(show, try_it.page),
            title="Try it",
            icon=":material/center_focus_strong:",
            url_path="try-it",
        ),
    ],
    "Label": [
        st.Page(
            partial(show, annotate.page),
            title="Annotate",
            icon=":material/draw:",
            url_path="annotate",
        ),
    ],
}
st.navigation(pages).run()

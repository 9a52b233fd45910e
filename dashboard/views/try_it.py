"""Try it: what the production model sees in one's own picture."""

import streamlit as st

from dashboard.data import duration
from dashboard.drawing import draw, open_upright, shapes_of
from dashboard.session import Desk
from shared.models.registry import Prediction

KINDS = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"]


def page(desk: Desk) -> None:
    """Show the model's answer to an uploaded picture."""
    st.title("Try it")
    if desk.client.aliases(desk.name).production is None:
        st.info(
            "No model is in production yet. The first round that passes the gate puts one.",
            icon=":material/hourglass_empty:",
        )
        return
    file = st.file_uploader("A picture", type=KINDS)
    if file is None:
        st.caption("Choose or drop a picture; the production model answers at once.")
        return
    content = file.getvalue()
    try:
        image = open_upright(content)
    except OSError:
        st.error(f"{file.name} is not a picture that can be read.", icon=":material/broken_image:")
        return
    prediction = _predicted(desk, file.file_id, content, file.name)
    left, right = st.columns([3, 1], gap="large")
    with right:
        st.metric("Boxes", len(prediction.detections), border=True)
        st.metric("Model", f"v{prediction.model_version}", border=True)
        st.metric("Time", duration(prediction.seconds) or "0 s", border=True)
        st.caption("calibrated thresholds" if prediction.calibrated else "not calibrated")
        score = st.slider("Hide boxes below score", 0.0, 1.0, 0.0, 0.01)
    with left:
        kept = [d for d in prediction.detections if d.score >= score]
        st.image(draw(image, shapes_of(kept), desk.project.classes), width="stretch")
        if not prediction.detections:
            st.caption("The model sees nothing it knows here.")


def _predicted(desk: Desk, file_id: str, content: bytes, name: str) -> Prediction:
    # Every prediction is logged for drift: moving the slider must not ask again.
    key = ("prediction", desk.name, file_id)
    if st.session_state.get("predicted-for") != key:
        st.session_state["predicted"] = desk.client.predict(desk.name, content, name=name)
        st.session_state["predicted-for"] = key
    prediction: Prediction = st.session_state["predicted"]
    return prediction

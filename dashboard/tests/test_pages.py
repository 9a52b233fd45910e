"""Every page in every situation a person may meet it in; none shows a traceback."""

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button, ButtonGroup, FileUploader

from dashboard.tests.conftest import OpenPage
from dashboard.tests.world import (
    NAME,
    World,
    busy_world,
    empty_world,
    fresh_world,
    image,
    map_of,
    picture,
    project,
    round_view,
)
from dashboard.views.round_form import AGGREGATIONS, MEANINGS, strategy_text
from shared.models.search import DuplicateGroup
from shared.models.strategies import STRATEGY_NAMES, KMeansStrategy, describe, parse_strategy

PAGES = ["loop", "curve", "images", "search", "try_it", "drift", "annotate"]


def said(at: AppTest) -> str:
    assert not at.exception
    kinds = (at.error, at.warning, at.info, at.success, at.markdown, at.caption, at.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def button(at: AppTest, label: str) -> Button:
    return next(b for b in at.button if label in b.label)


def upload(at: AppTest, content: bytes) -> AppTest:
    chooser = at.get("file_uploader")[0]
    assert isinstance(chooser, FileUploader)
    return chooser.upload("mine.jpg", content, "image/jpeg").run()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("make", [busy_world, fresh_world])
def test_every_page_opens(open_page: OpenPage, page: str, make: Callable[[], World]) -> None:
    at = open_page(page, make())
    assert not at.exception
    assert not at.error


@pytest.mark.parametrize("page", PAGES)
def test_without_a_project_every_page_says_how_to_make_one(open_page: OpenPage, page: str) -> None:
    words = said(open_page(page, empty_world()))
    assert "There is no project yet" in words
    assert "fovea project create" in words


def test_a_gateway_that_is_down_is_named_with_how_to_start_it(open_page: OpenPage) -> None:
    words = said(open_page("loop", "http://127.0.0.1:9"))
    assert "gateway (http://127.0.0.1:9)" in words
    assert "make local" in words


def test_a_wrong_key_is_said_to_be_wrong(open_page: OpenPage) -> None:
    words = said(open_page("loop", busy_world(), key="wrong"))
    assert "The gateway does not know this API key" in words


def test_a_missing_key_is_said_to_be_missing(open_page: OpenPage) -> None:
    assert "FOVEA_API_KEY" in said(open_page("loop", busy_world(), key=None))


def test_a_misspelt_setting_is_named(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_GATEWAY_ULR", "http://127.0.0.1:8000")
    assert "FOVEA_GATEWAY_ULR" in said(open_page("loop", busy_world()))


def test_the_loop_shows_what_serves_and_what_runs(open_page: OpenPage) -> None:
    at = open_page("loop", busy_world())
    assert [m.value for m in at.metric] == ["60", "20", "v2", "v1"]
    bars = [p.text for p in at.get("progress")]
    assert "4 of 10 images labelled" in bars
    assert "**inference.score** · 31 of 50 images · 41 s" in bars
    assert "labelling" in at.get("html")[0].proto.body


def test_a_failed_round_says_why(open_page: OpenPage) -> None:
    world = busy_world()
    world.rounds[-1] = round_view(3, "failed", error="step 'train' failed: out of memory")
    assert "This round failed: step 'train' failed: out of memory" in said(open_page("loop", world))


def test_the_first_round_is_started_from_the_form(open_page: OpenPage) -> None:
    world = fresh_world()
    at = open_page("loop", world)
    next(n for n in at.number_input if n.label == "How many").set_value(25)
    next(n for n in at.number_input if n.label == "Epochs").set_value(7)
    button(at, "Start the round").click().run()
    assert not at.exception
    request = world.rounds[0].request
    assert request.strategy == KMeansStrategy()
    assert (request.budget, request.budget_unit, request.training.epochs) == (25, "images", 7)


def test_a_mix_is_started_as_it_is_written_and_a_misspelt_one_is_explained(
    open_page: OpenPage,
) -> None:
    world = fresh_world()
    at = open_page("loop", world)
    for line in ("0.8 kmeans + 0.2 rnadom", "0.8 kmeans + 0.2 random"):
        written = next(t for t in at.text_input if t.label == "Or written on one line")
        written.set_value(line)
        button(at, "Start the round").click().run()
        if not world.rounds:
            assert "unknown strategy: 'rnadom'" in said(at)
    assert [r.request.strategy for r in world.rounds] == [parse_strategy(line)]


def test_the_form_offers_every_strategy_by_a_name_that_can_be_read() -> None:
    assert set(MEANINGS) == set(STRATEGY_NAMES)
    for name in MEANINGS:
        for aggregation in AGGREGATIONS:
            assert describe(parse_strategy(strategy_text(name, aggregation))).startswith(name)


def test_a_round_is_cancelled_by_its_button(open_page: OpenPage) -> None:
    world = busy_world()
    at = open_page("loop", world)
    button(at, "Yes, cancel it").click().run()
    assert world.rounds[-1].state == "cancelled"
    assert "This round was cancelled" in said(at)


def test_production_goes_back_by_the_confirmed_button(open_page: OpenPage) -> None:
    world = busy_world()
    at = open_page("loop", world)
    button(at, "Yes, roll back").click().run()
    assert world.aliases.production == 1
    assert [m.value for m in at.metric][2:] == ["v1", "none"]


def test_the_learning_curve_has_its_table(open_page: OpenPage) -> None:
    at = open_page("curve", busy_world())
    assert at.dataframe[0].value["mAP50"].tolist() == pytest.approx([0.53, 0.66])
    assert len(at.get("vega_lite_chart")) == 4


def test_simulations_are_shown_beside_the_projects_own_curve(open_page: OpenPage) -> None:
    at = open_page("curve", busy_world())
    assert "Choose by entropy: +0.0" in said(at)
    own_and_simulated = str(at.get("vega_lite_chart")[2].proto)
    assert "this project" in own_and_simulated
    assert at.dataframe[1].value["arm"].tolist() == ["random", "entropy"]
    assert "- **random**: the baseline" in said(at)
    next(s for s in at.selectbox if s.label == "Simulation").select_index(1).run()
    assert "No strategy is distinguishable from random" in said(at)


def test_a_project_without_rounds_shows_its_simulations_alone(open_page: OpenPage) -> None:
    world = fresh_world()
    world.simulations = busy_world().simulations[:1]
    at = open_page("curve", world)
    assert "Choose by entropy" in said(at)
    assert "this project" not in str(at.get("vega_lite_chart")[0].proto)


def test_without_simulations_the_page_says_how_to_make_one(open_page: OpenPage) -> None:
    assert "fovea strategy advise" in said(open_page("curve", fresh_world()))


def test_images_are_filtered_and_paged(open_page: OpenPage) -> None:
    at = open_page("images", busy_world())
    assert len(at.get("image")) == 24
    button(at, "More").click().run()
    assert "scene_0024.jpg" in [b.label for b in at.button]
    next(s for s in at.selectbox if s.label == "Split").set_value("gate").run()
    assert len(at.get("image")) == 6
    next(s for s in at.selectbox if s.label == "Labels").set_value("not labelled").run()
    assert "No image fits these filters" in said(at)


def test_an_image_opens_with_its_boxes_and_why_it_was_chosen(open_page: OpenPage) -> None:
    world = busy_world()
    at = open_page("images", world)
    button(at, "scene_0012.jpg").click().run()
    words = said(at)
    assert "Round 2, place 3: BALD 0.412" in words
    assert "2 labels (dashed) · 2 predictions (solid, with score)" in words
    assert f"GET /v1/projects/{NAME}/predictions/{image(12).id}" in world.calls


def test_an_image_opens_before_there_is_a_model(open_page: OpenPage) -> None:
    at = open_page("images", fresh_world())
    button(at, "scene_0012.jpg").click().run()
    words = said(at)
    assert "No predictions: project 'scenes' has no production model" in words
    assert "not labelled · 0 predictions" in words


def test_an_upload_is_predicted_once_however_often_the_slider_moves(open_page: OpenPage) -> None:
    world = busy_world()
    at = open_page("try_it", world)
    upload(at, picture("x"))
    assert [m.value for m in at.metric] == ["2", "v2", "43 ms"]
    at.slider[0].set_value(0.7).run()
    assert world.calls.count(f"POST /v1/projects/{NAME}/predict") == 1


def test_a_file_that_is_no_picture_is_refused_by_name(open_page: OpenPage) -> None:
    at = open_page("try_it", busy_world())
    upload(at, b"words")
    assert "mine.jpg is not a picture" in said(at)


def test_the_newest_drift_report_is_shown_and_a_new_one_is_made(open_page: OpenPage) -> None:
    world = busy_world()
    at = open_page("drift", world)
    assert "**Drifted:** `brightness`, `sharpness`" in said(at)
    button(at, "Make a new report").click().run()
    assert "**Drifted:** `brightness`" in said(at)
    assert len(world.drift) == 3


def choose_view(at: AppTest, view: str) -> AppTest:
    (views,) = (b for b in at.get("button_group") if "Map" in str(b.proto))
    assert isinstance(views, ButtonGroup)
    return views.set_value(view).run()


def test_an_image_of_the_project_is_searched_for_by_name_whole_by_box_and_by_region(
    open_page: OpenPage,
) -> None:
    world = busy_world()
    at = open_page("search", world)
    assert "Drop a picture" in said(at)
    at.text_input[0].set_value("scene_0012").run()
    assert "of 60 images that model v2 scored" in said(at)
    assert len(at.get("image")) == 1 + 15
    assert "scene_0011.jpg" in str(at.get("image")[-4].proto)
    parts = next(s for s in at.selectbox if s.label == "Look for what is like")
    assert parts.options == [
        "the whole image", "box 1: seven 0.91", "box 2: two 0.55", "a region of it",
    ]  # fmt: skip
    parts.set_value("box 2: two 0.55").run()
    assert "of 120 predicted boxes" in said(at)
    assert "box 1" in world.calls
    next(s for s in at.selectbox if s.label == "Look for what is like").set_value(
        "a region of it"
    ).run()
    assert "region 0.250000,0.250000,0.750000,0.750000" in world.calls
    button(at, "0.000").click().run()
    assert at.text_input[0].value == ""
    assert not at.exception


def test_a_picture_of_ones_own_is_searched_for(open_page: OpenPage) -> None:
    at = open_page("search", busy_world())
    upload(at, picture("x"))
    assert len(at.get("image")) == 1 + 15
    upload(at, b"words")
    assert "mine.jpg is not a picture" in said(at)


def test_search_without_a_model_says_what_to_do(open_page: OpenPage) -> None:
    at = open_page("search", fresh_world())
    at.text_input[0].set_value("scene_0012").run()
    assert "Nothing to show: nothing is indexed" in said(at)
    at.text_input[0].set_value("nothing like it").run()
    assert "No image has “nothing like it” in its name" in said(at)


def test_the_map_is_shown_and_made_anew(open_page: OpenPage) -> None:
    world = busy_world()
    at = choose_view(open_page("search", world), "Map")
    assert "60 of 60 images as model v2 sees them, UMAP" in said(at)
    for by in ("split", "uncertainty", "round"):
        next(s for s in at.selectbox if s.label == "Colour").set_value(by).run()
        assert len(at.get("vega_lite_chart")) == 1
    next(s for s in at.selectbox if s.label == "Layout").set_value("pca").run()
    button(at, "Make the map anew").click().run()
    assert "PCA" in said(at)


def test_a_map_that_misses_images_says_so_until_it_is_made_anew(open_page: OpenPage) -> None:
    world = busy_world()
    world.map = map_of(world.images[:40], "umap")
    at = choose_view(open_page("search", world), "Map")
    assert "it is of 40 images, and by now a model has looked at 60" in said(at)
    button(at, "Make the map anew").click().run()
    assert "This map is old" not in said(at)


@pytest.mark.parametrize("before", ["", "job 'a1' (inference.map) failed: NothingScored: "])
def test_why_there_is_no_map_is_said_without_what_the_job_is_called(
    open_page: OpenPage, before: str
) -> None:
    world = busy_world()
    world.refuse_maps = f"{before}a map needs 3 images"
    at = choose_view(open_page("search", world), "Map")
    button(at, "Make the map anew").click().run()
    assert at.status[0].label == "No map: a map needs 3 images"


def test_a_project_without_a_map_says_how_to_get_one(open_page: OpenPage) -> None:
    at = choose_view(open_page("search", fresh_world()), "Map")
    assert "There is no map yet" in said(at)


def test_near_duplicates_are_listed_and_crossing_ones_marked(open_page: OpenPage) -> None:
    at = choose_view(open_page("search", busy_world()), "Near-duplicates")
    words = said(at)
    assert "**2 images**" in words
    assert "**3 images** · :orange[in different splits: train, val]" in words
    assert len(at.get("image")) == 5
    at.toggle[0].set_value(True).run()
    assert "**2 images**" not in said(at)
    assert len(at.get("image")) == 3


def test_crossing_groups_are_paged_and_none_is_lost(open_page: OpenPage) -> None:
    world = busy_world()
    world.duplicates = [
        DuplicateGroup(name=f"{n:03}", images=(image(n % 40), image(44)), crosses=n % 12 == 0)
        for n in range(600)
    ]
    at = choose_view(open_page("search", world), "Near-duplicates")
    at.toggle[0].set_value(True).run()
    shown = [len(at.get("image"))]
    while not button(at, "More").disabled:
        button(at, "More").click().run()
        shown.append(len(at.get("image")))
    assert shown == [40, 40, 20]
    world.duplicates = world.duplicates[1:9]
    at = choose_view(open_page("search", world), "Near-duplicates")
    at.toggle[0].set_value(True).run()
    assert "No near-duplicates in different splits." in said(at)


def annotating(open_page: OpenPage, world: World) -> AppTest:
    at = open_page("annotate", world)
    return at.text_input[0].set_value("ada").run()


def test_an_annotator_is_told_why_and_how_far(open_page: OpenPage) -> None:
    at = annotating(open_page, busy_world())
    assert "**Why this image:** BALD 0.412" in said(at)
    assert "2 boxes drawn by the model" in said(at)
    assert at.get("progress")[0].text == "Round 3: 4 of 10 images done"


def test_nothing_here_and_skip_save_and_bring_the_next_image(open_page: OpenPage) -> None:
    world = busy_world()
    at = annotating(open_page, world)
    button(at, "Nothing here").click().run()
    button(at, "Skip").click().run()
    assert not at.exception
    answers = [(task_id, a.outcome, a.annotations) for task_id, a in world.answers]
    assert answers == [("task-5", "labelled", ()), ("task-6", "skipped", ())]
    assert at.get("progress")[0].text == "Round 3: 6 of 10 images done"


def test_an_answer_that_is_refused_is_explained_and_the_image_stays(open_page: OpenPage) -> None:
    world = busy_world()
    world.refuse_answers = "task 'task-5' is kept for 'eve' now"
    at = annotating(open_page, world)
    button(at, "Nothing here").click().run()
    assert "Not saved: task 'task-5' is kept for 'eve' now" in said(at)
    button(at, "Take another image").click().run()
    assert "Not saved" not in said(at)


def test_when_everything_is_labelled_it_says_so(open_page: OpenPage) -> None:
    world = busy_world()
    world.tasks.clear()
    assert "Every image of round 3 is done" in said(annotating(open_page, world))


def test_a_project_without_classes_says_how_to_get_them(open_page: OpenPage) -> None:
    world = fresh_world()
    world.projects = [project().model_copy(update={"classes": ()})]
    assert "has no classes yet" in said(annotating(open_page, world))

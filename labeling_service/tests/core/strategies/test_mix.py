from labeling_service.tests.core.strategies.support import box, choose, ids, image

IMAGES = [image(f"{n:02}", box(entropy=n / 50)) for n in range(50)]


def test_every_start_of_a_batch_has_the_shares() -> None:
    chosen = choose("0.8 entropy + 0.2 random", IMAGES, 20)
    by_entropy = ["80% by entropy: entropy" in c.reason for c in chosen]
    assert sum(by_entropy) == 16
    assert all("20% by random: random draw from" in c.reason for c in chosen if c.value is None)
    for n in range(1, 21):
        assert abs(sum(by_entropy[:n]) - 0.8 * n) < 1


def test_each_part_takes_its_best_that_is_left() -> None:
    chosen = choose("0.8 entropy + 0.2 random", IMAGES, 20, seed=1)
    drawn = {c.image_id for c in chosen if c.value is None}
    ranked = [c.image_id for c in chosen if c.value is not None]
    best = [f"{n:02}" for n in range(49, -1, -1)]
    # An image drawn at random first is not there for the ranking any more.
    reached = best[: best.index(ranked[-1]) + 1]
    assert ranked == [i for i in reached if i not in drawn]
    assert len(reached) > len(ranked) == 16


def test_parts_that_want_the_same_share_the_order() -> None:
    chosen = choose("0.5 entropy:max + 0.5 entropy:sum", IMAGES, 4)
    assert ids(chosen) == ["49", "48", "47", "46"]
    assert [c.reason.split(":")[0] for c in chosen] == [
        "50% by entropy",
        "50% by entropy",
        "50% by entropy",
        "50% by entropy",
    ]


def test_three_parts_have_their_shares() -> None:
    chosen = choose("0.5 entropy + 0.3 coreset + 0.2 random", IMAGES, 10)
    counts = [sum(f"by {name}" in c.reason for c in chosen) for name in ("entropy:", "coreset")]
    assert counts == [5, 3]


BURST = {f"{n:02}": "burst" for n in range(10, 50)}


def test_the_shares_are_met_among_images_that_do_not_look_alike() -> None:
    for seed in range(5):
        chosen = choose("0.8 entropy + 0.2 random", IMAGES, 10, groups=BURST, seed=seed)
        assert sum("80% by entropy" in c.reason for c in chosen) == 8
        assert sum(i in BURST for i in ids(chosen)) == 1


def test_what_looks_like_another_parts_choice_is_passed_over() -> None:
    images = [
        image("a", box(entropy=0.9, bald=0.1)),
        image("b", box(entropy=0.1, bald=0.9)),
        image("c", box(entropy=0.5, bald=0.5)),
    ]
    chosen = choose("0.5 entropy + 0.5 bald", images, 2, groups={"a": "same", "b": "same"})
    assert ids(chosen) == ["a", "c"]
    assert chosen[1].reason.startswith("50% by bald: ")


def test_when_only_look_alikes_are_left_the_shares_go_on() -> None:
    same = {i.image_id: "same" for i in IMAGES}
    chosen = choose("0.8 entropy + 0.2 random", IMAGES, 10, groups=same)
    assert sum("80% by entropy" in c.reason for c in chosen) == 8
    said = "; a near-duplicate, as nothing else was left"
    assert [said in c.reason for c in chosen] == [False] + [True] * 9

from labeling_service.tests.core.strategies.support import box, choose, ids, image

IMAGES = [image(f"{n:02}", box(entropy=n / 50)) for n in range(50)]


def test_every_start_of_a_batch_has_the_shares() -> None:
    chosen = choose("0.8 entropy + 0.2 random", IMAGES, 20)
    by_entropy = ["80% by entropy: entropy" in c.reason for c in chosen]
    assert sum(by_entropy) == 16
    assert all("20% by random: random draw of" in c.reason for c in chosen if c.value is None)
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

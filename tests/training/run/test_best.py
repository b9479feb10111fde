"""Which models stay, and when a run stops early."""

from tfvl.training.run.best import Best


def test_the_best_of_higher_and_of_lower_values():
    found = Best()
    assert found.add(1, "accuracy", 0.5, 1, 1) == (["best"], [])
    assert found.add(2, "accuracy", 0.5, 1, 1) == ([], [])
    assert found.add(3, "accuracy", 0.7, 1, 1) == (["best"], [])
    assert found.best == {"step": 3, "name": "accuracy", "value": 0.7}
    found = Best()
    assert [found.add(step, "loss", value, -1, 1)[0] for step, value in ((1, 2.0), (2, 3.0), (3, 1.0))] == [
        ["best"],
        [],
        ["best"],
    ]


def test_several_stay():
    found = Best()
    values = [(10, 0.5), (20, 0.7), (30, 0.6), (40, 0.1), (50, 0.7)]
    done = [found.add(step, "accuracy", value, 1, 2) for step, value in values]
    assert done == [
        (["best", "best-10"], []),
        (["best", "best-20"], []),
        (["best-30"], ["best-10"]),
        ([], []),
        (["best-50"], ["best-30"]),  # of equal ones the first is the best
    ]
    assert found.kept == [[20, 0.7], [50, 0.7]]


def test_stops_after_validations_that_bring_nothing():
    found = Best()
    stops = []
    for step, value in enumerate((0.5, 0.4, 0.6, 0.6, 0.5)):
        found.add(step, "accuracy", value, 1, 1)
        stops.append((found.stops(None), found.stops(2)))
    assert stops == [(False, False)] * 4 + [(False, True)]
    assert found.sentence(4) == (
        "stopped early after step 4: 2 validations without a better accuracy than the 0.6000 of step 2"
    )
    again = Best(found.best, found.kept, found.since)
    assert again.stops(2)

import pytest

from vlmdesc.evaluation.verdict import Difference, judge


def differ(delta, low, high, p, n=5050):
    return Difference("describe", "other", delta, (low, high), p, p, n)


BETTER, WORSE = differ(0.041, 0.029, 0.053, 0.0001), differ(-0.03, -0.04, -0.02, 0.001)
SAME, UNCLEAR = differ(0.002, -0.006, 0.0099, 0.4), differ(0.02, -0.01, 0.05, 0.2)


@pytest.mark.parametrize(
    ("difference", "state"),
    [
        (BETTER, "better"),
        (WORSE, "worse"),
        (SAME, "same"),
        (UNCLEAR, "unclear"),
        (differ(0.03, 0.01, 0.05, 0.08), "unclear"),  # the interval says so, the corrected test does not
        (differ(0.03, -0.001, 0.05, 0.01), "unclear"),  # the reverse
        (differ(0.004, 0.001, 0.007, 0.08), "same"),
        (differ(0.0, -0.01, 0.01, 1.0), "unclear"),  # a whole point either way is not the same
        (differ(0.0, 0.0, 0.0, 1.0, 299), "unclear"),  # of six images that all agree nothing follows
        (differ(0.0, 0.0, 0.0, 1.0, 300), "same"),
    ],
)
def test_what_a_difference_says(difference, state):
    assert difference.state == state


@pytest.mark.parametrize(
    ("name", "waffle", "code"),
    [
        (None, BETTER, "no-baseline"),
        (WORSE, BETTER, "harm"),
        (SAME, BETTER, "no-gain"),
        (UNCLEAR, BETTER, "unclear"),
        (BETTER, None, "no-control"),
        (BETTER, BETTER, "meaning"),
        (BETTER, SAME, "ensembling"),
        (BETTER, WORSE, "ensembling"),
        (BETTER, UNCLEAR, "unexplained"),
    ],
)
def test_every_rule(name, waffle, code):
    against = {role: d for role, d in (("name", name), ("waffle", waffle)) if d}
    assert judge(against).code == code


def test_the_sentence_has_n_intervals_and_p():
    verdict = judge({"name": BETTER, "waffle": SAME})
    assert verdict.text == (
        "Descriptors beat the name alone by 4.1 points (95 % CI 2.9 to 5.3, p<0.001, n=5050), but not random words "
        "(+0.2, 95 % CI -0.6 to 1.0, p=0.400): the gain is ensembling, not meaning."
    )


def test_more_is_said_where_more_was_measured():
    text = judge(
        {"name": BETTER, "waffle": BETTER, "templates": WORSE, "swapped": BETTER}, free=0.384, chance=0.005
    ).text
    assert "what they say helps." in text
    assert "An ensemble of name templates does better (-3.0, 95 % CI -4.0 to -2.0, p=0.001)." in text
    assert "Given to other classes than their own they lose their worth (+4.1," in text
    assert text.endswith("Without the names they reach 38.4 % (chance: 0.5 %).")
    assert "templates" not in judge({"name": BETTER}).text

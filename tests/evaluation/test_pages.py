import json
import re
from base64 import b64encode
from functools import partial
from itertools import pairwise

import pytest

from tests.evaluation.test_html import HOSTILE, Parsed, jpeg
from vlmdesc.evaluation.html import page
from vlmdesc.records import ClassName
from vlmdesc.text import shown

audit_page = partial(page, "audit.html.j2")
CLASSES = (ClassName("a", "hen"), ClassName("b", "owl"))
TAGS = set(
    "html head meta title style body header p h1 h2 h3 div span dl dt dd ul li main section table caption thead tbody "
    "tr th td br b bdi code img footer".split()
)


def share(value, n=40):
    return {"n": n, "value": value, "ci95": [0.1, 0.9]}


def gap(value, n=40, differs=True):
    told = {"gap": value - 0.9, "gap_ci95": [-0.5, -0.1], "p": 0.001, "p_holm": 0.002, "differs": differs}
    return share(value, n) | {"judged": True} | told


def cell(w, class_="a"):
    return {"class": class_, "name": w("hen"), "group": w("night")}


def audited(w=str, **more):
    """An audit with something in every section. `w` makes every word but what a template looks at."""
    pull = {"descriptor": w("sunlit grass"), "here": -0.1, "others": 0.2, "worse_by": 0.3, "ci95": [0.2, 0.4]}
    counts = {"net": -3, "right_only_with": {"here": 1, "others": 5}, "right_only_without": {"here": 4, "others": 0}}
    failure = {
        "tpr": gap(0.5),
        "fpr": gap(0.2),
        "taken_for": [{"class": "b", "name": w("owl"), "n": 7}, {"class": w("z"), "name": w("zebra"), "n": 2}],
        "pulls": [{"class": "a", "name": w("hen"), **pull, **counts}],
        "images": [{"image": w("f.jpg"), "row": 0, "truth": "a", "answer": w("c")}],
    }
    other = failure | {"pulls": [], "taken_for": [], "images": [{**failure["images"][0], "row": 3}]}
    opportunity = {"gap": 0.4, "ci95": [0.1, 0.6]} | {
        side: {"group": w(group), **share(0.5)} for side, group in (("least", "night"), ("most", "day"))
    }
    return {
        "schema": 1,
        "n": 80,
        "ungrouped": 3,
        "accuracy": share(0.7, 80),
        "grouping": w("Groups were proposed."),
        "groups": [
            {"group": w("night"), **gap(0.5)},
            {"group": w("day"), **gap(0.95, differs=False)},
            {"group": w("dusk"), **share(0.5, 2), "judged": False},
        ],
        "worst_group": w("night"),
        "worst_class_in_group": {**cell(w), "accuracy": share(0.5)},
        "equal_opportunity": {"largest": 0.4, "mean": 0.2, "classes": [{**cell(w), **opportunity}]},
        "max_skew": {"largest": 0.69, "mean": 0.3, "classes": [{**cell(w), "k": 10, "value": 0.69}]},
        "failed": [
            {**cell(w), "how": "not found", **failure},
            {**cell(w, w("d")), "how": "others taken for it", **other},
        ],
        "failed_in_all": 3,
        "pulls_defined": True,
        "judged": 2,
        "cells": [
            {**cell(w), "tpr": gap(0.5), "fnr": share(0.5), "fpr": gap(0.2)},
            {**cell(w, w("d")), "tpr": share(None, 0) | {"judged": False}, "fnr": share(None, 0), "fpr": gap(0.2)},
        ],
        "too_small": [{**cell(w), "n": 4}],
    } | more


def mapped(value, w):
    """A record with every string made hostile, class ids among them."""
    if isinstance(value, dict):
        return {key: mapped(item, w) for key, item in value.items()}
    if isinstance(value, list):
        return [mapped(item, w) for item in value]
    return w(value) if isinstance(value, str) else value


def harmless(html):
    """The parsed page, which holds nothing but what our templates made."""
    found = Parsed(html)
    assert {tag for tag, _ in found.tags} <= TAGS and not found.inside and "/>" not in html
    assert all(c.isprintable() or c == "\n" for c in html)
    assert not re.search(r"url\(|@import|<script|<link", html)
    for tag, attrs in found.tags:
        assert not [name for name in attrs if name.startswith("on")]
        assert not attrs.keys() & {"srcset", "autofocus", "action", "href"}
        assert "style" not in attrs
        assert ("src" in attrs) == (tag == "img")
    sources = [attrs["src"] for tag, attrs in found.tags if tag == "img"]
    assert set(sources) <= {"data:image/jpeg;base64," + b64encode(jpeg()).decode()}
    return found


@pytest.mark.parametrize("text", HOSTILE)
def test_an_audit_shows_hostile_texts_as_text_and_nothing_else(text):
    html = audit_page(audited(lambda word: text + word), text + "farm.csv", CLASSES, {0: jpeg()})
    found = harmless(html)
    words = "night;day;dusk;sunlit grass;f.jpg;farm.csv;z;c;d;Groups were proposed."
    assert [word for word in words.split(";") if shown(text + word) not in found.text] == []


@pytest.mark.parametrize("text", HOSTILE[::2])
def test_every_string_of_a_record_may_be_hostile(text):
    def w(word):
        return text + word

    harmless(audit_page(mapped(audited(), w), w("data"), CLASSES, {}))


@pytest.mark.parametrize("text", HOSTILE[:3])
def test_names_of_classes_may_be_hostile(text):
    classes = (ClassName("a", text + "hen"), ClassName("b", text + "hen"))
    html = audit_page(audited(), "farm.csv", classes, {})
    assert shown(text)[:50] in harmless(html).text  # a name is cut at 60 letters


def test_a_page_is_the_same_each_time_and_asks_for_nothing():
    record = audited()
    html = audit_page(record, "farm.csv", CLASSES, {0: jpeg()})
    assert html == audit_page(json.loads(json.dumps(record)), "farm.csv", CLASSES, {0: jpeg()})
    assert html.startswith("<!DOCTYPE html>") and "https:" not in html and "http:" not in html
    [policy] = [attrs for tag, attrs in Parsed(html).tags if "http-equiv" in attrs]
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_headings_are_in_order_and_tables_have_captions():
    found = Parsed(audit_page(audited(), "farm.csv", CLASSES, {}))
    levels = [int(tag[1]) for tag, _ in found.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tags = [tag for tag, _ in found.tags]
    assert tags.count("caption") == tags.count("table") > 1
    assert all("scope" in attrs for tag, attrs in found.tags if tag == "th")


def test_an_audit_says_whom_it_fails_and_why():
    text = " ".join(Parsed(audit_page(audited(), "farm.csv", CLASSES, {})).text.split())
    for words in (
        "80 images in 3 groups, 70.0 (10.0 to 90.0) % right; 3 images without a group left out. Groups were proposed.",
        "uneven 3 classes in a group fare worse",
        "hen in night: not found",
        "Found in 50.0 (10.0 to 90.0) % of 40 images here, \N{MINUS SIGN}40.0 points (\N{MINUS SIGN}50.0 to",
        "against the other groups, p 0.002.",
        "Taken for owl (7), z (2).",
        "d in night: others taken for it Others are taken for it in 20.0",
        "sunlit grasshen-0.1000+0.20001 / 45 / 0",
        "too few to judge",
        "The 2 with the largest gaps of 3",
        "hen in night (4)",
    ):
        assert words in text


def test_an_audit_that_finds_nothing_says_so_and_claims_no_more():
    none = {"largest": None, "mean": None, "classes": []}
    quiet = {"failed": [], "failed_in_all": 0, "too_small": [], "worst_group": None, "worst_class_in_group": None}
    found = audited(**quiet, equal_opportunity=none, max_skew=none, ungrouped=0, judged=7)
    text = Parsed(audit_page(found, "farm.csv", CLASSES, {})).text
    assert "no difference found" in text and "no proof that there is no difference" in text
    assert "uneven" not in text and "left out" not in text and "Worst" not in text
    assert "7 classes in a group could be judged" in text


def test_where_nothing_can_be_judged_nothing_is_called_even():
    none = {"largest": None, "mean": None, "classes": []}
    quiet = {"failed": [], "failed_in_all": 0, "too_small": [], "worst_group": None, "worst_class_in_group": None}
    found = audited(**quiet, equal_opportunity=none, max_skew=none, judged=0)
    text = Parsed(audit_page(found, "farm.csv", CLASSES, {})).text
    assert "not judged" in text and "none can be judged" in text and "no difference found" not in text


def test_a_picture_that_is_missing_is_a_box_with_its_name():
    html = audit_page(audited(), "farm.csv", CLASSES, {0: jpeg()})
    assert html.count("<img") == 1 and html.count('aria-label="No image of f.jpg">f.jpg</span>') == 1

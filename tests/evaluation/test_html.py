import json
import re
import shutil
import subprocess
from base64 import b64encode
from html import escape
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlmdesc.evaluation.html import Axis, axis, cut, report_page
from vlmdesc.records import Report
from vlmdesc.text import shown

HOSTILE = (
    "<script>alert(1)</script>",
    "</td><img src=https://evil.example/x onerror=alert(1)>",
    '"><svg onload="alert(1)"><base href="//evil.example">',
    "</style></title><iframe src=//evil.example>",
    "' onfocus='alert(1)' autofocus='",
    "gpj\u202eexe.\x1b[31m\x00\u200b\udcff\n",
    "{{ 7 * 7 }}{% raw %}&lt;b&gt;",
)
TAGS = set(
    "html head meta title style body a header p h1 h2 h3 div span dl dt dd nav ul li main section table caption thead "
    "tbody tr th td br b bdi abbr code details summary article img i footer svg line circle rect text g "
    "polyline".split()
)
SECTIONS = "methods comparisons classes confusions changes credit weight left-out environment".split()


def jpeg():
    out = BytesIO()
    Image.new("RGB", (8, 8), "teal").save(out, "JPEG")
    return out.getvalue()


def method(top1, kind="name", prompt="hen", **more):
    interval = [max(0.0, top1 - 0.05), min(1.0, top1 + 0.05)]
    figures = {"top1": top1, "top5": 0.9, "mean_per_class": top1, "ci95": interval, "kind": kind}
    about = {"prompt_form": prompt, "texts": 4, "calibration": {"ece": 0.03, "temperature": [0.01] * 5}}
    others = {"ci95_top5": interval, "ci95_mean_per_class": interval, "phrase": "plain", "pool": "mean"}
    return figures | about | others | more


def row(id_, name, top1, n=2, fixed=0, broken=0):
    return {"id": id_, "name": name, "n": n, "top1": top1, "fixed": fixed, "broken": broken}


def credit(text, worth, class_="a"):
    sides = {"only_with": int(max(0, 4 * worth)), "only_without": int(max(0, -4 * worth))}
    return {"class": class_, "descriptor": text, "credit": worth} | sides


def example(key, at, before, after, says):
    reasons = [{"class": class_, "descriptor": says, "similarity": 0.25} for class_ in (after, before)]
    return {"image": key, "row": at, "truth": "a", "before": before, "after": after, "reasons": reasons}


def minimal(w=str, **more):
    """One method, two classes, nothing found. `w` makes every word."""
    name = w("name")
    task = {"data": w("farm.csv"), "n": 4, "classes": 2, "class_names": {"a": w("hen"), "b": w("owl")}}
    task |= {"split": "", "columns": dict.fromkeys(("image", "label", "group", "id"), ""), "failed": 0, "unlabelled": 0}
    about = {"data_hash": w("01ab"), "phrase": w("plain"), "pool": w("mean"), "resamples": 100, "seed": 0}
    parts = {
        "task": task | about | {"descriptors": {w("farm"): {"rows": 4, "sha256": w("4567")}}},
        "encoder": {"name": w("fake"), "fingerprint": w("89ab"), "precision": w("fp32")},
        "methods": {name: method(0.5, prompt=w("hen"))},
        "comparisons": [],
        "verdict": {"code": "no-baseline", "text": w("Nothing can be said.")},
        "base": name,
        "main": name,
        "classes": [row("a", w("hen"), {name: 0.5}), row("b", w("owl"), {name: 0.5})],
        "confusions": [],
        "changes": {"fixed": 0, "broken": 0, "examples": {"fixed": [], "broken": []}},
        "credit": [],
        "left_out": {},
        "environment": {"vlmdesc": w("0.1.0"), w("numpy"): w("2.0")},
        "times": {"started": w("2026-01-01T00:00:00Z"), "seconds": 1.5},
    }
    return msgspec.convert(parts | more, Report)


def whole(w=str, **more):
    """Two methods, a mixture, a control, groups, images, credit: something in every section."""
    base, main, mixed, control, north, south = map(w, ("name", "describe", "mixed", "waffle", "north", "south"))
    groups = {north: {"n": 2, "top1": 0.5, "ci95": [0.2, 0.8]}, south: {"n": 2, "top1": 1.0, "ci95": [0.9, 1.0]}}
    grouped = {"groups": groups, "worst_group": north, "gap": {"best": south, "value": 0.5, "ci95": [0.1, 0.9]}}
    weight = {"of_name": [0.5, 0.5, 0.5, 0.0, 1.0], "curve": [0.6, 0.8, 0.5]}
    seeds = {"std": 0.1, "min": 0.3, "max": 0.5, "seed": [0, 1], "top1": [0.3, 0.5]}
    found = {
        "methods": {
            base: method(0.5, **grouped),
            main: method(0.75, "descriptors", w("hen, which has a comb"), **grouped),
            mixed: method(0.7, "mix", weight=weight, **grouped),
            control: method(0.4, "control", seeds=seeds, **grouped),
        },
        "main": main,
        "comparisons": [
            {"a": main, "b": base, "delta": 0.25, "ci95": (0.1, 0.4), "p": 0.02, "p_holm": 0.04, "state": "better"}
        ],
        "verdict": {"code": "meaning", "text": w("Descriptors beat the name by 3.2 points. They do.")},
        "classes": [
            row("a", w("hen"), {base: 0.0, main: 1.0}, fixed=2),
            row("b", w("owl"), {base: 1.0, main: 0.5}, broken=1),
        ],
        "confusions": [{"truth": "a", "answer": "b", "n": 3, "before": 2, "image": w("c.jpg"), "row": 7}],
        "changes": {
            "fixed": 2,
            "broken": 1,
            "examples": {
                "fixed": [example(w("f.jpg"), 0, "b", "a", w("a red comb"))],
                "broken": [example(w("g.jpg"), 1, "a", "b", w("a flat face"))],
            },
        },
        "credit": [credit(w("a beak"), 0.25), credit(w("a forked tail"), -0.25), credit(w("feathers"), 0.0)],
        "left_out": {w("free"): w("a class has no descriptor")},
    }
    return minimal(w, **(found | more))


class Parsed(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.inside = [], "", []
        self.feed(html)
        self.close()
        self.ids = [attrs["id"] for _, attrs in self.tags if "id" in attrs]

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append((tag, dict(attrs)))
        self.inside += [tag] if tag not in ("meta", "br", "img") else []

    def handle_startendtag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in <{tag}/>"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        self.text += data if self.inside[-1:] != ["style"] else ""

    def all(self, tag):
        return [attrs for found, attrs in self.tags if found == tag]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_shown_as_text_and_nothing_else(text):
    html = report_page(whole(lambda word: text + word), {0: jpeg()})
    found = Parsed(html)
    assert {tag for tag, _ in found.tags} <= TAGS and not found.inside
    assert html.isascii() or all(c.isprintable() or c == "\n" for c in html)
    for tag, attrs in found.tags:
        assert not [name for name in attrs if name.startswith("on") or name in ("srcset", "autofocus", "action")]
        assert tag == "a" or "href" not in attrs
        assert tag == "img" or "src" not in attrs
        assert re.fullmatch(r"width: [\d.]+%", attrs.get("style", "width: 0%"))
    assert all(attrs["href"][1:] in found.ids for attrs in found.all("a"))
    assert [attrs["src"] for attrs in found.all("img")] == ["data:image/jpeg;base64," + b64encode(jpeg()).decode()]
    words = "hen;owl;name;describe;mixed;waffle;north;south;f.jpg;g.jpg;c.jpg;a red comb;a flat face;a beak;free;2.0"
    assert [word for word in words.split(";") if shown(text + word) not in found.text] == []


def test_a_page_is_the_same_each_time_and_asks_for_nothing():
    html = report_page(whole(), {0: jpeg()})
    assert html == report_page(whole(), {0: jpeg()})
    assert html.startswith("<!DOCTYPE html>")
    policy = next(attrs for attrs in Parsed(html).all("meta") if "http-equiv" in attrs)
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not re.search(r"https?:|url\(|@import|<script|<link", html)


@pytest.mark.parametrize("report", [minimal(), whole()], ids=["minimal", "whole"])
def test_headings_are_in_order_and_sections_have_anchors(report):
    found = Parsed(report_page(report, {}))
    levels = [int(tag[1]) for tag, _ in found.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    absent = {"weight", "left-out"} if not report.left_out else set()
    assert [attrs["id"] for attrs in found.all("section")] == [id_ for id_ in SECTIONS if id_ not in absent]
    assert len(set(found.ids)) == len(found.ids)
    assert {attrs["href"][1:] for attrs in found.all("a")} == {id_ for id_ in SECTIONS if id_ not in absent}
    assert all("aria-label" in attrs for attrs in found.all("svg") if attrs.get("role") == "img")
    assert all("scope" in attrs for attrs in found.all("th")) and len(found.all("caption")) == len(found.all("table"))


@pytest.mark.parametrize(("code", "tone"), [("meaning", "good"), ("harm", "bad"), ("ensembling", "open")])
def test_the_verdict_comes_first_and_has_a_tone(code, tone):
    html = report_page(whole(verdict={"code": code, "text": "Descriptors help by 3.2 points. They do."}), {})
    assert f'class="verdict {tone}"' in html
    assert '<p class="first">Descriptors help by 3.2 points.</p>' in html and "<p>They do.</p>" in html
    assert html.index(f'class="badge">{code}<') < html.index("Right with") < html.index('id="methods"')


def test_methods_stand_in_groups_best_first_and_draws_as_ticks():
    html = report_page(whole(), {})
    places = [html.index(f'class="group">{words}<') for words in ("Names alone", "Descriptors", "Controls")]
    assert places == sorted(places)
    text = Parsed(html).text
    assert text.index("describe main") < text.index("mixed") < text.index("waffle")
    draws = [attrs for attrs in Parsed(html).all("line") if attrs.get("class") == "seed"]
    scale = axis([0.35, 0.45, 0.3, 0.8])
    assert [attrs["x1"] for attrs in draws] == [scale.at(0.3), scale.at(0.5)]


EVEN = [row("a", "hen", {"name": 0.5, "describe": 0.5}), row("b", "owl", {"name": 0.0, "describe": 0.0})]
SIZES = [row(str(n), f"class {n}", {"name": 0.0, "describe": 1.0}, n=n, fixed=n) for n in (1, 4, 10)]
CRANES = msgspec.structs.replace(minimal().task, class_names={"a": "crane", "b": "crane"})


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (minimal(), ["Only one method was measured", "No image was given a wrong class", "Credit is accuracy with"]),
        (
            whole(classes=EVEN, changes=minimal().changes, credit=[credit("a beak", 0.0)]),
            ["No class gained", "No class lost", "Fixed: 0 images", "None helps", "None hurts"],
        ),
        (whole(task=CRANES), ["crane (a)", "crane (b)"]),
        (whole(), ["Every class has 2 images here, so one image more or less is 50.0 points"]),
        (whole(classes=SIZES), ["Classes have 1 to 10 images here, in the median 4, where one image", "+10 of 10"]),
        (whole(), ["name: worst for north (50.0 %), 50.0 points below south (95 % interval 10.0 to 90.0)."]),
        (whole(), ["(3 of 5 folds)", "f.jpg"]),
    ],
)
def test_what_a_page_says(report, says):
    text = Parsed(report_page(report, {})).text
    assert [words for words in says if words not in text] == []


def test_an_image_that_is_missing_is_a_box_and_the_curve_marks_the_chosen_weights():
    html = report_page(whole(), {})
    assert "<img" not in html and html.count('aria-label="No image of f.jpg">f.jpg</span>') == 1
    assert len([attrs for attrs in Parsed(html).all("circle") if attrs.get("class") == "chosen"]) == 3
    assert 'points="0.0,' in html


def test_what_a_head_learned_is_shown_as_text():
    shots = {"weight": 0.5, "texts": 0, "pictures": 3, "labels": "reference", "classes_without": [HOSTILE[0] + "hen"]}
    methods = {"name": method(0.5), "few-shot": method(0.5, "fitted", "owl", learned=shots)}
    parsed = Parsed(report_page(minimal(methods=methods), {}))
    assert f"weight 0.5; 1 class without any: {HOSTILE[0]}hen" in parsed.text and not parsed.all("script")


def test_long_tables_are_cut_and_say_so():
    long = "an endless text " * 1_000
    classes = {str(c): f"class {c} {long}" for c in range(10_000)}
    rows = [row(c, name, {"name": 0.5, "describe": int(c) % 101 / 100}) for c, name in classes.items()]
    credits_ = [credit(f"{m} {long}", (m - 10_000) / 10_000, class_=str(m % 10_000)) for m in range(20_000)]
    groups = {f"g{i}": {"n": 1, "top1": i / 500, "ci95": [0.0, 1.0]} for i in range(500)}
    grouped = {"groups": groups, "worst_group": "g0", "gap": {"best": "g1", "value": 0.5, "ci95": [0.1, 0.9]}}
    methods = {"name": method(0.5, **grouped), "describe": method(0.6, "descriptors", **grouped)}
    task = msgspec.structs.replace(minimal().task, class_names=classes, classes=10_000)
    parts = {"task": task, "classes": rows, "credit": credits_, "methods": methods, "confusions": [], "left_out": {}}
    html = report_page(whole(**parts | {"changes": minimal().changes}), {})
    assert len(html) < 4e6
    for words in ("2,000 that changed most: the other 8,000", "the other 18,000 in between", "first 200 of 500 groups"):
        assert words in html


def test_a_scale_holds_its_values_and_clips_the_rest():
    scale = axis([0.31, 0.46])
    assert scale == Axis(0.3, 0.5, (0.3, 0.35, 0.4, 0.45, 0.5))
    assert [scale.at(value) for value in (0.1, 0.3, 0.4, 0.9)] == ["0.00%", "0.00%", "50.00%", "100.00%"]
    assert scale.length(0.35, 0.4) == "25.00%" and scale.digits == 0
    assert axis([0.4, 0.4]).digits == 1 and axis([]).ticks[-1] == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_any_values_have_a_scale_of_few_ticks(values):
    scale = axis(values)
    assert 2 <= len(scale.ticks) <= 8
    assert scale.low <= min(values) + 1e-8 and max(values) <= scale.high + 1e-8


@given(st.text(max_size=40), st.integers(2, 30))
def test_cut_text_is_short_and_harmless(text, most):
    found = cut(text, most)
    assert len(found) <= most and found.isprintable()
    assert found == shown(text) or found.endswith("…")


# In a browser


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Opens an HTML text from file:// in headless Chromium: its DOM, its log, and the URLs it asked for."""
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next((path for name in names if (path := shutil.which(name))), None)
    if binary is None:
        pytest.skip(f"no browser on PATH: {', '.join(names)}")

    def opened(html):
        folder = tmp_path_factory.mktemp("browser")
        (folder / "page.html").write_text(html, encoding="utf-8")
        quiet = "headless no-sandbox disable-gpu no-first-run disable-background-networking disable-sync".split()
        told = (f"user-data-dir={folder / 'profile'}", f"log-net-log={folder / 'net.json'}", "enable-logging=stderr")
        flags = [
            f"--{flag}"
            for flag in (*quiet, *told, "host-resolver-rules=MAP * ~NOTFOUND", "hide-scrollbars", "dump-dom")
        ]
        address = (folder / "page.html").as_uri()
        done = subprocess.run([binary, *flags, address], capture_output=True, timeout=120, check=True)
        return done.stdout.decode(), done.stderr.decode(errors="replace"), asked(folder / "net.json")

    return opened


def asked(log):
    """URLs that a page asked the network for; what the browser asks for itself has no origin."""
    lines = [line.rstrip(",") for line in log.read_text().splitlines() if '"initiator"' in line]  # an event a line
    wanted = [event["params"] for line in lines for event in [json.loads(line.removesuffix("],"))]]
    return [request["url"] for request in wanted if request["initiator"] != "not an origin"]


@pytest.mark.slow
def test_a_browser_is_seen_to_ask_and_to_complain(browse):
    """That the next test would find something, were there anything to find."""
    _, _, urls = browse("<img src=https://evil.example/x>")
    assert urls == ["https://evil.example/x"]
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
    dom, log, urls = browse(f"{policy}<title>a</title><script>document.title = 'b'</script><img src=//evil.example/x>")
    assert "CONSOLE" in log and urls == [] and "<title>a</title>" in dom


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
def test_in_a_browser_nothing_runs_and_nothing_is_asked_for(browse, text):
    dom, log, urls = browse(report_page(whole(lambda word: text + word), {0: jpeg(), 1: jpeg(), 7: jpeg()}))
    assert "CONSOLE" not in log and urls == []
    found = Parsed(dom)
    assert {tag for tag, _ in found.tags} <= TAGS
    assert found.text.lstrip().startswith(f"vlmdesc report: {shown(text)}farm.csv")


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("text", ["", "x" * 300, "\N{CJK UNIFIED IDEOGRAPH-6A39}" * 300], ids=["short", "word", "wide"])
def test_no_page_is_wider_than_its_window(browse, width, text):
    html = report_page(whole(lambda word: text + word), {0: jpeg()})
    measure = "onload=\"document.title = 'wide ' + this.contentDocument.documentElement.scrollWidth\""
    dom, _, _ = browse(
        f'<title></title><iframe width="{width}" height="600" srcdoc="{escape(html)}" {measure}></iframe>'
    )
    assert f"<title>wide {width}</title>" in dom

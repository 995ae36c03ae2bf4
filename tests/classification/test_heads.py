"""Laws of every head: parts add up, what is saved comes back, and what does not belong is refused."""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.classification.test_score import unit
from vlmdesc import Classifier, Descriptors, Store, load_data
from vlmdesc.classification.columns import Columns
from vlmdesc.classification.explain import because, contrast, leave_out, leave_out_parts
from vlmdesc.classification.heads import HEADS, Head, HeadCard, Parts, load_head, save_head
from vlmdesc.classification.heads.folder import head_id
from vlmdesc.classification.heads.neighborhood import OWN, Choice, Neighborhood, Texts, fit_own
from vlmdesc.classification.heads.pooled import Mixed, Pooled
from vlmdesc.classification.heads.prototypes import SHARPNESS, Prototypes, calibrate, choose
from vlmdesc.classification.score import POOLS
from vlmdesc.classification.selection import first_texts, profile
from vlmdesc.errors import InputError, ModelError, ShapeError, StoreError
from vlmdesc.records import ClassName, Hit
from vlmdesc.testing import COLOURS, FakeEncoder, label_vectors

ZOO = Descriptors.of(
    {"flamingo": ["pink feathers", "long pink legs"], "frog": ["green skin"], "raven": ["black wings", "a black bill"]}
)
KINDS = sorted([*POOLS, *HEADS])


def card(kind, n_classes):
    return HeadCard(kind, tuple(ClassName(f"c{c}", f"class {c}") for c in range(n_classes)), "fake-1", kind)


def made(kind, seed):
    """A head of a kind over random texts, and images: one class or more, rows switched off, texts that stand twice,
    classes without images and with nothing to pick, and weights from far apart.
    """
    rng = np.random.default_rng(seed)
    c, d, n = int(rng.integers(1, 7)), int(rng.integers(2, 10)), int(rng.integers(1, 6))
    images = unit(rng.normal(size=(n, d)))
    if kind == "neighborhood":
        owner, labels = rng.integers(0, c, rng.integers(1, 11)), rng.integers(0, c, rng.integers(0, 13))
        captions, rows, reference = (unit(rng.normal(size=(k, d))) for k in (c, len(owner), len(labels)))
        names, said = tuple(f"class {i}" for i in range(c)), tuple(f"text {i}" for i in range(len(owner)))
        texts = Texts(captions, rows, first_texts(owner, c, OWN), names, said)
        known = np.ascontiguousarray(profile(reference, labels, rows, c).T) if len(labels) else None
        choice = Choice(int(rng.integers(1, c + 1)), int(rng.integers(1, 6)), float(np.float32(rng.uniform(0, 40))))
        return Neighborhood(card(kind, c), texts, choice, known), images
    pool = kind if kind in POOLS else "mean"
    first = pooled(rng, c, d, pool)
    if kind == "mixed":
        return Mixed(card(kind, c), first, pooled(rng, c, d, "max"), float(rng.uniform())), images
    if kind == "prototypes":
        keys = unit(rng.normal(size=(c, d)))
        keys[rng.random(c) < 0.4] = np.nan
        return Prototypes(card(kind, c), first, keys, float(rng.uniform(0, 50))), images
    return first, images


def pooled(rng, c, d, pool):
    owner = rng.permutation(np.array([*range(c), *range(c), *rng.integers(0, c, rng.integers(0, 10))]))
    texts = unit(rng.normal(size=(len(owner), d)))
    texts[rng.integers(0, len(owner))] = texts[0]
    weights = rng.uniform(0.01, 100, len(owner)).astype(np.float32)
    off = rng.random(len(owner)) < 0.3
    off[[int(np.flatnonzero(owner == class_)[0]) for class_ in range(c)]] = False
    columns = Columns(texts, owner, weights * ~off, c, tuple(f"text {m}" for m in range(len(owner))))
    return Pooled(card(pool, c), columns)


def two_sets_of_classes(head, n, seed):
    return np.random.default_rng(seed).integers(0, len(head.card.classes), (2, n))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_parts_add_up_to_the_score(kind, seed):
    head, images = made(kind, seed)
    assert isinstance(head, Head)
    scores = head.scores(images)
    assert scores.shape == (len(images), len(head.card.classes)) and scores.dtype == np.float32
    for classes in two_sets_of_classes(head, len(images), seed):
        parts = head.parts(images, classes)
        assert parts.number.shape == parts.value.shape == parts.share.shape == parts.similarity.shape
        off = np.abs(parts.value.sum(axis=1) - scores[np.arange(len(images)), classes])
        assert (off <= 1e-6 * np.abs(parts.value).sum(axis=1)).all()
        assert (parts.value[~parts.here] == 0).all() and (parts.number < len(parts.keys)).all()
        assert parts.share.sum(axis=1) == pytest.approx(np.ones(len(images)), abs=1e-5)
        assert len(parts.keys) == len(parts.texts)


@pytest.mark.parametrize("pool", POOLS)
def test_parts_of_next_to_nothing_add_up_to_it(pool):
    rng = np.random.default_rng(0)
    head = Pooled(card(pool, 3), pooled(rng, 3, 8, pool).columns)
    images, classes = unit(rng.normal(size=(200, 8))) * np.float32(1e-20), rng.integers(0, 3, 200)
    value, scores = head.parts(images, classes).value, head.scores(images)[np.arange(200), classes]
    assert (np.abs(value.sum(axis=1) - scores) <= 1e-6 * np.abs(value).sum(axis=1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_rounding_is_spread_over_parts_is_rounding(kind, monkeypatch):
    """The parts as they are, before they are made to add up to the last bit, are off by float32's rounding only."""
    for module in ("head", "neighborhood"):
        monkeypatch.setattr(f"vlmdesc.classification.heads.{module}.add_up", lambda parts, scores, classes: parts)
    for seed in range(40):
        head, images = made(kind, seed)
        scores = head.scores(images)
        for classes in two_sets_of_classes(head, len(images), seed):
            total = head.parts(images, classes).value.sum(axis=1)
            size = 1 + np.abs(scores).max()
            assert total == pytest.approx(scores[np.arange(len(images)), classes], abs=float(3e-6 * size))


def values_of(parts, i):
    """What each part of image i gives, by its number."""
    here = parts.here[i]
    return dict(zip(parts.number[i][here].tolist(), parts.value[i][here].tolist(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_alone_is_an_image_in_a_batch(kind):
    for seed in range(20):
        head, images = made(kind, seed)
        [classes, _] = two_sets_of_classes(head, len(images), seed)
        whole = head.parts(images, classes)
        for i, class_ in enumerate(classes):
            one = head.parts(images[i : i + 1], np.array([class_]))
            told = [values_of(*side) for side in ((whole, i), (one, 0))]
            assert told[0].keys() == told[1].keys()
            size = 1 + float(np.abs(whole.value[i]).sum())
            assert all(told[0][key] == pytest.approx(told[1][key], abs=1e-6 * size) for key in told[0])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_contributions_add_up_to_the_margin(kind, seed):
    head, images = made(kind, seed)
    scores, pairs = head.scores(images), two_sets_of_classes(head, len(images), seed)
    sides = tuple(head.parts(images, classes) for classes in pairs)
    for i, pair in enumerate(zip(*pairs, strict=True)):
        hits = tuple(Hit(str(c), float(scores[i, c]), str(c)) for c in pair)
        found = contrast(hits, sides, i)
        total = sum(hit.score for hit in (*found.of_a, *found.of_b))
        assert total == pytest.approx(found.margin, abs=1e-5 * (1 + float(np.abs(scores[i]).max())))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_reasons_give_most_first_and_leave_out_what_lowers_the_score(kind, seed, k):
    head, images = made(kind, seed)
    [classes, _] = two_sets_of_classes(head, len(images), seed)
    parts = head.parts(images, classes)
    for hits, here, number, value in zip(because(parts, k), parts.here, parts.number, parts.value, strict=True):
        by_key = dict(zip(number[here].tolist(), value[here].tolist(), strict=True))
        told = [by_key[next(m for m in by_key if (parts.keys[m], parts.texts[m]) == (h.key, h.text))] for h in hits]
        if max(by_key.values()) > 0:
            assert told == sorted(told, reverse=True) and min(told) >= 0
            assert len(told) == min(k, sum(v >= 0 for v in by_key.values()))
        else:
            assert len(told) == min(k, len(by_key))


# By hand


@pytest.mark.parametrize("seed", range(20))
def test_a_part_left_out_is_a_descriptor_switched_off(seed):
    """By the vectors of the mean and its like, and by the parts of a mean; the only one of a class leaves the score."""
    rng = np.random.default_rng(seed)
    for pool in (name for name, pool in POOLS.items() if pool.fold):
        head, images = made(pool, seed)
        columns, classes = head.columns, len(head.card.classes)
        class_ = int(rng.integers(classes))
        left, score = leave_out(head, images, class_), head.scores(images)[:, class_]
        assert left.numbers.tolist() == columns.rows_of(class_).tolist() and left.score == pytest.approx(
            score, abs=1e-6
        )
        assert left.texts == tuple(f"text {m}" for m in left.numbers)
        for m, without in zip(left.numbers.tolist(), left.without.T, strict=True):
            off = np.where(np.arange(len(columns.owner)) == m, 0, columns.weights).astype(np.float32)
            whole = len(left.numbers) == 1
            expected = score if whole else Pooled(head.card, replace(columns, weights=off)).scores(images)[:, class_]
            assert without == pytest.approx(expected, abs=1e-5)
        parts = head.parts(images, np.full(len(images), class_))
        if pool == "mean":
            by_parts, rest = (x[:, : len(left.numbers)] for x in (leave_out_parts(parts), 1 - parts.share))
            assert rest * by_parts == pytest.approx(rest * left.without, abs=1e-6)


def test_a_prototype_left_out_leaves_the_texts_and_a_text_the_others():
    head = Prototypes(card("prototypes", 2), Pooled(card("mean", 2), columns_by_hand()), np.eye(2, dtype="f4"), 3.0)
    image = np.float32([[1, 0]])
    texts, on_top = head.texts.scores(image)[0, 0], head.scores(image)[0, 0] - head.texts.scores(image)[0, 0]
    left, alone = leave_out(head, image, 0), leave_out(head.texts, image, 0)
    assert left.without[0, -1] == pytest.approx(texts, abs=1e-6) and left.texts[-1] == "(its photographs)"
    assert left.without[0, :-1] == pytest.approx(alone.without[0] + on_top, abs=1e-6)
    assert left.lift[0, -1] == pytest.approx(on_top, abs=1e-6)


def test_a_descriptor_left_out_of_a_neighbourhood_leaves_its_share_to_the_others():
    head, _ = neighborhood_by_hand()
    images = unit(np.random.default_rng(0).normal(size=(20, head.texts.texts.shape[1])))
    parts, left = head.parts(images, np.zeros(20, np.intp)), leave_out(head, images, 0)
    assert left.score == pytest.approx(head.scores(images)[:, 0], abs=1e-6)
    for i, p in zip(*np.nonzero(parts.here), strict=True):
        value, share = parts.value[i], parts.share[i]
        held, whole = share > 0, share[p] == 1
        rest = (
            (value[held].sum() - value[p]) / (1 - share[p] + whole) + value[~held].sum()
            if held[p]
            else value.sum() - value[p]
        )
        r = left.numbers.tolist().index(parts.number[i, p])
        assert left.without[i, r] == pytest.approx(value.sum() if whole else rest, abs=1e-5)
    elsewhere = ~(parts.number[:, :, None] == left.numbers).any(axis=1)
    assert (left.lift[elsewhere] == 0).all()


def columns_by_hand():
    """Class 0 has similarities 0.9 and 0.5 to the image (1, 0), class 1 has 0.4."""
    texts = np.float32([[0.9, 0], [0.4, 0], [0.5, 0]])
    return Columns(texts, np.array([0, 1, 0]), np.ones(3, np.float32), 2, ("comb", "stripes", "beak"))


def test_pooled_by_hand():
    """Halfway between the means 0.7 and 0.4 lies 0.55."""
    head, image = Pooled(card("mean", 2), columns_by_hand()), np.float32([[1, 0]])
    sides = head.parts(image, np.array([0])), head.parts(image, np.array([1]))
    found = contrast((Hit("h", 0.7, "hen"), Hit("z", 0.4, "zebra")), sides, 0)
    assert [(hit.text, round(hit.score, 3)) for hit in found.of_a] == [("comb", 0.175), ("beak", -0.025)]
    assert [(hit.text, round(hit.score, 3)) for hit in found.of_b] == [("stripes", 0.15)]
    [hits] = because(sides[0], 5)
    assert [(hit.key, hit.text, round(hit.score, 3)) for hit in hits] == [("0", "comb", 0.9), ("2", "beak", 0.5)]
    best = Pooled(card("max", 2), columns_by_hand()).parts(image, np.array([0]))
    assert best.value.round(3).tolist() == [[0.9, 0.0]] and best.share.tolist() == [[1.0, 0.0]]
    assert [hit.text for hit in because(best, 5)[0]] == ["comb", "beak"]
    sides = tuple(Pooled(card("max", 2), columns_by_hand()).parts(image, np.array([c])) for c in (0, 1))
    found = contrast((Hit("h", 0.9, "hen"), Hit("z", 0.4, "zebra")), sides, 0)
    assert [hit.text for hit in (*found.of_a, *found.of_b)] == ["comb", "stripes"]  # the beak has no part in it
    [[against]] = because(Pooled(card("max", 2), columns_by_hand()).parts(-image, np.array([0])), 1)
    assert against.text == "beak"  # all speak against it; beak the least


def at(*cosines):
    return np.float32([[x, (1 - x * x) ** 0.5] for x in cosines])


def neighborhood_by_hand(k=2, weight=2.0):
    """Captions at 0.9, 0.8, 0.1 to the image (1, 0); texts at 0.5, 0.4 and 0.3, of which class 2 has none."""
    own = first_texts(np.array([0, 0, 1]), 3, OWN)
    texts = Texts(at(0.9, 0.8, 0.1), at(0.5, 0.4, 0.3), own, ("hen", "owl", "eel"), ("comb", "beak", "disc"))
    return Neighborhood(card("neighborhood", 3), texts, Choice(k, 2, weight)), np.float32([[1, 0]])


def told(head, image, class_):
    [hits] = because(head.parts(image, np.array([class_])), 9)
    return [(hit.key, hit.text, round(hit.score, 6)) for hit in hits]


def test_reasons_of_a_neighbourhood_by_hand():
    """hen: its name adds 2 * 0.9, comb 0.5 / 2, beak 0.4 / 2; with a weight of 0 the name adds nothing."""
    head, image = neighborhood_by_hand()
    assert told(head, image, 0) == [("name", "hen", 0.9), ("0", "comb", 0.5), ("1", "beak", 0.4)]
    head, _ = neighborhood_by_hand(k=3, weight=0.0)
    assert [text for _, text, _ in told(head, image, 0)] == ["comb", "beak", "hen"]
    assert [text for _, text, _ in told(head, -image, 0)] == ["beak", "comb", "hen"]  # the most similar of what is left


def test_a_contrast_of_a_neighbourhood_by_hand():
    """hen: 2 * 0.9 + (0.5 + 0.4) / 2 = 2.25; owl: 2 * 0.8 + 0.3 = 1.9; halfway 2.075.

    The name holds 2 of 3 parts, comb and beak half a part each, disc a whole one: 1.8 - 2/3 * 2.075 = 0.417, and so on.
    """
    head, image = neighborhood_by_hand()
    sides = head.parts(image, np.array([0])), head.parts(image, np.array([1]))
    found = contrast((Hit("h", 2.25, "hen"), Hit("o", 1.9, "owl")), sides, 0)
    assert [(hit.key, hit.text, round(hit.score, 3)) for hit in found.of_a] == [
        ("name", "hen", 0.417), ("0", "comb", -0.096), ("1", "beak", -0.146),
    ]  # fmt: skip
    assert [(hit.text, round(hit.score, 3)) for hit in found.of_b] == [("disc", 0.392), ("owl", -0.217)]
    assert found.margin == pytest.approx(0.35) and found.a.text == "hen"


def test_a_caption_stands_in_where_there_is_nothing_to_pick_and_no_candidate_has_a_rest():
    """Eel as a candidate: 2 * 0.1 + 0.1 = 0.3, all of it by its name. As none it lies below owl's 1.9 by 2 * 0.7."""
    head, image = neighborhood_by_hand(k=3)
    assert head.scores(image)[0, 2] == pytest.approx(0.3) and told(head, image, 2) == [("name", "eel", 0.1)]
    head, image = neighborhood_by_hand(k=2)
    assert head.scores(image)[0, 2] == pytest.approx(1.9 - 1.4, abs=1e-5)
    parts = head.parts(image, np.array([2]))
    values = {
        parts.keys[m]: v for m, v in zip(parts.number[0].tolist(), parts.value[0].tolist(), strict=True) if m >= 0
    }
    assert values == pytest.approx({"name": 0.3, "rest": 0.2}, abs=1e-5)


# Saved and loaded


def same(a, b):
    (fields, arrays), (others, theirs) = a.state(), b.state()
    equal = all(np.array_equal(arrays[name], theirs[name], equal_nan=arrays[name].dtype.kind == "f") for name in arrays)
    return a.card == b.card and fields == others and arrays.keys() == theirs.keys() and equal


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_comes_back_whole(kind, tmp_path):
    for seed in range(8):
        head, images = made(kind, seed)
        about = {"images": 3, "labels": "reference", "new_classes": 0}
        head = replace(head, card=replace(head.card, settings={"phrase": "plain"}, fitted_on=about, temperature=0.03))
        save_head(head, tmp_path / str(seed))
        again = load_head(tmp_path / str(seed))
        assert same(head, again) and head_id(head) == head_id(again)
        assert np.array_equal(again.scores(images), head.scores(images))
        assert json.loads((tmp_path / str(seed) / "head.json").read_text())["kind"] == kind


def test_a_head_replaces_another_only_when_told_and_nothing_else_ever(tmp_path):
    (one, _), (other, _) = made("mean", 1), made("prototypes", 2)
    save_head(one, tmp_path / "head")
    with pytest.raises(InputError, match="there is a head"):
        save_head(other, tmp_path / "head")
    save_head(other, tmp_path / "head", replace=True)
    assert same(load_head(tmp_path / "head"), other) and len(list((tmp_path / "head").glob("[!.]*"))) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"x")
    for place in (tmp_path / "mine", tmp_path / "mine" / "photo.jpg"):
        with pytest.raises(InputError):
            save_head(one, place, replace=True)
    with pytest.raises(InputError, match="no head"):
        load_head(tmp_path / "mine")


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_or_a_cut_is_found(kind, tmp_path):
    head, _ = made(kind, 3)
    save_head(head, tmp_path / "whole")
    rng = np.random.default_rng(0)
    for trial in range(40):
        shutil.copytree(tmp_path / "whole", folder := tmp_path / f"{kind}{trial}")
        path = sorted(folder.glob("[!.]*"))[trial % 2]
        raw = bytearray(path.read_bytes())
        at_ = int(rng.integers(len(raw)))
        if trial % 5:
            raw[at_] ^= 1 << int(rng.integers(8))
        path.write_bytes(raw if trial % 5 else raw[:at_])
        with pytest.raises((StoreError, InputError)):
            load_head(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "evil"},
        {"schema": 99},
        {"arrays": {"name": "../../etc/passwd", "bytes": 1, "sha256": ""}},
        {"arrays": {"name": 3}},
        {"classes": [{"id": "a", "name": "a", "aliases": []}]},
        {"classes": "abc"},
        {"head": {}},
        {"head": []},
    ],
)
def test_a_card_that_someone_else_wrote_can_do_no_harm(change, tmp_path):
    from vlmdesc.cache import checksum

    for kind in KINDS:
        head, _ = made(kind, 7)
        save_head(head, folder := tmp_path / kind)
        values = json.loads((folder / "head.json").read_text())
        values = {key: value for key, value in (values | change).items() if key != "check"}
        (folder / "head.json").write_text(json.dumps(values | {"check": checksum(values)}))
        if len(head.card.classes) == 1 and "classes" in change and change["classes"] != "abc":
            continue
        with pytest.raises((StoreError, InputError)):
            load_head(folder)


def rewritten(kind, folder, card=lambda values: None, arrays=lambda arrays: None, seed=7):
    """A head's folder that a stranger changed, and signed anew."""
    from safetensors.numpy import load, save

    from vlmdesc.cache import checksum

    head, _ = made(kind, seed)
    save_head(replace(head, card=replace(head.card, fitted_on={"images": 3, "labels": "reference"})), folder)
    values = json.loads((folder / "head.json").read_text())
    found = load((folder / values["arrays"]["name"]).read_bytes())
    (folder / values["arrays"]["name"]).unlink()
    found = {name: array.copy() for name, array in found.items()}
    arrays(found)
    raw = save({name: np.ascontiguousarray(array) for name, array in found.items()})
    digest = hashlib.sha256(raw).hexdigest()
    values["arrays"] = {"name": f"arrays-{digest[:32]}.safetensors", "bytes": len(raw), "sha256": digest}
    (folder / values["arrays"]["name"]).write_bytes(raw)
    card(values)
    del values["check"]
    (folder / "head.json").write_text(json.dumps(values | {"check": checksum(values)}))
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        {"settings": None},
        {"settings": [1]},
        {"fitted_on": 3},
        {"fitted_on": {}},
        {"fitted_on": {"images": "x"}},
        {"name": 3},
        {"model": ["starter"]},
        {"precision": None},
        {"encoder": {}},
        {"parent": 1},
        {"temperature": "x"},
        {"temperature": -1},
        {"temperature": 0},
        {"temperature": True},
    ],
)
def test_a_card_of_odd_values_is_refused(kind, change, tmp_path):
    with pytest.raises(StoreError, match="damaged"):
        load_head(rewritten(kind, tmp_path / "head", lambda values: values.update(change)))


def test_a_card_without_a_checksum_of_its_arrays_or_with_a_class_twice_is_refused(tmp_path):
    for i, change in enumerate((
        lambda values: values["arrays"].pop("sha256"),
        lambda values: values["classes"].append(values["classes"][0]),
    )):  # fmt: skip
        with pytest.raises(StoreError, match="damaged"):
            load_head(rewritten("mean", tmp_path / str(i), change))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("mixed", {"weight": "nan"}),
        ("mixed", {"weight": 1.5}),
        ("prototypes", {"weight": -1}),
        ("prototypes", {"weight": 1e300}),
        ("prototypes", {"weight": True}),
        ("mean", {"descriptors": [3]}),
        ("mean", {"descriptors": "ab"}),
        ("neighborhood", {"names": {"a": 1}}),
        *[
            ("neighborhood", {"choice": {"k": 1, "m": 1, "name_weight": 1.0} | odd})
            for odd in (
                {"k": True}, {"m": 1.5}, {"m": 0}, {"name_weight": "x"}, {"name_weight": -1}, {"name_weight": 1e300},
                {"ceiling": "x"}, {"fallback": 2}, {"accuracy": 0.5}, {"more": 1},
            )
        ],
    ],
)  # fmt: skip
def test_odd_values_of_a_head_itself_are_refused(kind, change, tmp_path):
    with pytest.raises(StoreError, match="no whole head"):
        load_head(rewritten(kind, tmp_path / "head", lambda values: values["head"].update(change)))


@pytest.mark.parametrize("change", [{"kind": None}, {"kind": "prototypes"}, {"settings": [1]}, {"settings": "x"}])
def test_odd_values_of_a_head_within_a_head_are_refused(change, tmp_path):
    for kind, inner in (("mixed", "first"), ("mixed", "second"), ("prototypes", "texts")):
        folder = rewritten(kind, tmp_path / (kind + inner), lambda values, k=inner: values["head"][k].update(change))
        with pytest.raises(StoreError, match="no whole head"):
            load_head(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.astype(np.float64),
        lambda array: np.nan_to_num(array).astype(np.int32),
        lambda array: array[None],
        lambda array: array[:0],
        lambda array: np.full_like(array, 2**62),
        lambda array: np.full_like(array, -2),
    ],
)
def test_arrays_of_another_type_shape_or_size_are_refused(kind, change, tmp_path):
    for name in made(kind, 7)[0].state()[1]:

        def odd(arrays, name=name):
            arrays[name] = change(arrays[name])

        with pytest.raises(StoreError, match="no whole head"):
            load_head(rewritten(kind, tmp_path / name, arrays=odd))


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_of_another_width_than_its_encoder_s_is_refused(kind):
    head, images = made(kind, 7)
    assert images.shape[1] != FakeEncoder().dim
    with pytest.raises(ModelError, match="another width than 16"):
        Classifier(FakeEncoder(), head=head)


@pytest.mark.parametrize("place", ["head.json", "arrays"])
def test_pipes_and_devices_in_a_head_s_folder_are_not_read(place, tmp_path):
    for i, put in enumerate((os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir)):
        save_head(made("mean", 7)[0], folder := tmp_path / str(i))
        [path] = folder.glob(f"{place}*")
        path.unlink()
        put(path)
        with pytest.raises((InputError, StoreError), match=r"no head|damaged"):
            load_head(folder)


# What does not belong


def seen(*colours):
    """Flat images in two colours, half and half, as embeddings."""
    return FakeEncoder().images([picture(*pair) for pair in colours])


def picture(a, b):
    image = Image.new("RGB", (16, 16), COLOURS[a])
    image.paste(COLOURS[b], (0, 0, 16, 8))
    return image


PHOTOS = seen(*[(colour, other) for colour in ("pink", "green", "black") for other in ("white", "blue", colour)])
LABELS = np.repeat(np.arange(3), 3)


def selecting():
    return Classifier(FakeEncoder(), ZOO).fit(PHOTOS, LABELS, "neighborhood")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("flamingo", "frog"), "it alone has raven"),
        (("flamingo", "frog", "raven", "hen"), "it lacks hen"),
        (("flamingo", "raven", "frog"), "class 1 is 'frog' there and 'raven' here"),
        (("flamingo", "frog", "hen"), "it alone has raven; it lacks hen"),
    ],
)
def test_a_head_of_other_classes_is_refused_by_name(names, said):
    others = Descriptors.of({name: ["red"] for name in names})
    for head in (selecting().head, Classifier(FakeEncoder(), ZOO).head):
        with pytest.raises(InputError, match=said):
            Classifier(FakeEncoder(), others, head)


def test_a_head_of_another_encoder_is_refused_by_fingerprint(tmp_path):
    class Other(FakeEncoder):
        name, fingerprint = "other", "other-1"

    selecting().save(tmp_path / "head")
    with pytest.raises(ModelError, match=r"fake \(fake-1\), these are of other \(other-1\)"):
        Classifier.load(tmp_path / "head", Other())
    assert Classifier.load(tmp_path / "head", FakeEncoder()).head.card == selecting().head.card


# In a classifier


def test_a_classifier_that_selects_scores_as_its_head_does():
    classifier = selecting()
    images = seen(("green", "red"), ("pink", "black"), ("white", "white"))
    assert np.array_equal(classifier.scores(images), classifier.head.scores(images))
    [prediction] = classifier.stream([picture("green", "white")], against=True)
    assert prediction.ranked[0].text == "frog" and prediction.because[0].text == "green skin"
    assert prediction.contrast.a.text == "frog" and prediction.contrast.b.text == prediction.ranked[1].text
    assert prediction.contrast.margin == pytest.approx(prediction.margin)


def test_a_class_that_is_no_candidate_can_be_set_against_the_winner():
    found = selecting()
    for k, winner in ((1, "flamingo"), (2, "frog"), (3, "frog")):
        narrow = replace(found.head, choice=replace(found.head.choice, k=k))
        prediction = Classifier(FakeEncoder(), ZOO, narrow)(picture("green", "green"), against="raven")
        assert (prediction.contrast.a.text, prediction.contrast.b.text) == (winner, "raven")
        told_ = [hit.key for hit in prediction.contrast.of_b]
        assert ("rest" in told_) == (k < 3)  # captions without a colour all lie at 0: the first k classes


def test_a_batch_gives_what_each_image_alone_gives():
    images = [picture(a, b) for a in COLOURS for b in ("green", "pink")]
    for classifier in (Classifier(FakeEncoder(), ZOO), selecting(), Classifier(FakeEncoder(), ZOO).fit(PHOTOS, LABELS)):
        whole = [*classifier.stream(images, against=True, batch_size=7)]
        for image, found in zip(images, whole, strict=True):
            [alone] = classifier.stream([image], against=True)
            assert [h.key for h in alone.ranked] == [h.key for h in found.ranked]
            assert alone.margin == pytest.approx(found.margin, abs=1e-6)
            assert {h.text: round(h.score, 4) for h in alone.because} == {
                h.text: round(h.score, 4) for h in found.because
            }


@pytest.mark.parametrize("pool", sorted(POOLS))
def test_classes_without_photographs_keep_their_scores_exactly(pool):
    plain = Classifier(FakeEncoder(), ZOO, pool)
    images = seen(("green", "red"), ("pink", "black"), ("white", "white"), ("pink", "pink"))
    before = plain.scores(images)
    fitted = plain.fit(PHOTOS[3:6], LABELS[3:6])
    after = fitted.scores(images)
    assert np.array_equal(after[:, [0, 2]], before[:, [0, 2]])
    assert (after[:, 1] > before[:, 1]).all()
    assert np.array_equal(plain.scores(images), before)  # the classifier that was given is as it was
    assert "(its photographs)" not in [hit.text for hit in plain(picture("green", "white")).because]
    assert "(its photographs)" in [hit.text for hit in fitted(picture("green", "white")).because]


def test_new_classes_are_calibrated_and_nothing_else_is():
    """One image, half orange and half green, of a class that no text tells of, beside frogs and ravens."""
    more = Descriptors.of(
        {c.name: [r.text for r in ZOO.rows if r.class_id == c.id] for c in ZOO.classes} | {"newt": []}
    )
    base, images = PHOTOS[3:], seen(("green", "green"), ("orange", "green"), ("pink", "black"))
    new = seen(("orange", "green"))
    plain = Classifier(FakeEncoder(), more)
    assert "newt" in plain.notes[0]
    fitted = plain.fit(np.concatenate([base, new]), np.append(LABELS[3:], 3), n_new=1).scores(images)
    alone = Classifier(FakeEncoder(), ZOO).fit(base, LABELS[3:])
    assert fitted[:, :3] == pytest.approx(alone.scores(images), abs=1e-6)
    found, weight = choose(base, LABELS[3:], Classifier(FakeEncoder(), ZOO).scores(base))
    moved = calibrate(new, found[1:], np.array([0.5]))  # flamingo has no photographs, and draws nothing
    assert not np.allclose(moved, new, atol=0.05)
    expected = plain.scores(images)[:, 3] + weight * np.exp(SHARPNESS * ((images @ moved.T)[:, 0] - 1))
    assert fitted[:, 3] == pytest.approx(expected, abs=1e-6)


def test_new_classes_alone_are_as_they_are():
    only = Classifier(FakeEncoder(), ZOO)
    new, labels = seen(("black", "white")), np.array([2])
    assert np.array_equal(only.fit(new, labels, n_new=1).scores(PHOTOS), only.fit(new, labels).scores(PHOTOS))


def test_prototypes_go_beside_texts_alone():
    for classifier in (selecting(), Classifier(FakeEncoder(), ZOO).fit(PHOTOS, LABELS)):
        with pytest.raises(InputError, match="give all images to a plain classifier"):
            classifier.fit(PHOTOS, LABELS)
    for kind, said in (("prototypes", "no images"), ("neighborhood", "no reference images"), ("sparse", "no head")):
        with pytest.raises(InputError, match=said):
            Classifier(FakeEncoder(), ZOO).fit(PHOTOS[:0], LABELS[:0], kind)


@pytest.mark.parametrize("labels", [LABELS[:-1], np.append(LABELS[1:], 3), np.append(LABELS[1:], -1)])
@pytest.mark.parametrize("n_new", [0, 1])
def test_labels_that_do_not_fit_are_refused(labels, n_new):
    with pytest.raises(ShapeError, match=f"9 images, {len(labels)} labels, 3 classes"):
        Classifier(FakeEncoder(), ZOO).fit(PHOTOS, labels, n_new=n_new)


def test_a_neighbourhood_without_selection_reads_each_class_by_its_own():
    head = selecting().head
    own = fit_own(head.card, head.texts, PHOTOS, LABELS)
    reasons = {hit.text for hit in Classifier(FakeEncoder(), ZOO, own)(picture("black", "black")).because}
    assert reasons & {"black wings", "a black bill"} and not reasons & {"green skin", "pink feathers", "long pink legs"}


def test_parts_of_nothing_are_nothing():
    for kind in KINDS:
        head, images = made(kind, 1)
        parts = head.parts(images[:0], np.empty(0, np.intp))
        assert isinstance(parts, Parts) and len(parts.number) == 0 and because(parts, 3) == []


def test_a_data_set_is_fitted_to_by_its_labels(tmp_path):
    """Of no class: unicorn; a broken file; a copy of an image under its label once more."""
    for name, (main, other) in {
        "frog": ("green", "white"),
        "raven": ("black", "red"),
        "unicorn": ("pink", "pink"),
    }.items():
        (tmp_path / name).mkdir()
        picture(main, other).save(tmp_path / name / "0.png")
        picture(main, other).save(tmp_path / name / "1.png")
    (tmp_path / "frog" / "broken.png").write_bytes(b"no image")
    store = Store(tmp_path / "store")
    plain = Classifier(FakeEncoder(), ZOO, store=store)
    by_data = plain.fit(load_data(tmp_path, label_column=""), head="prototypes")
    vectors = seen(("green", "white"), ("black", "red"))
    by_arrays = plain.fit(vectors, np.array([1, 2]))
    by_labelled = plain.fit(label_vectors(vectors, [1, 2]))
    for other in (by_arrays, by_labelled):
        assert same(other.head, by_data.head)
    with pytest.raises(InputError, match="embeddings without labels"):
        plain.fit(vectors)


@pytest.mark.parametrize("kind", ["prototypes", "neighborhood"])
def test_what_is_no_labelled_embedding_is_refused_before_anything_is_fitted(kind):
    plain = Classifier(FakeEncoder(), ZOO)
    expected = plain.fit(PHOTOS, LABELS, kind).scores(PHOTOS)
    for images, labels in ((PHOTOS.tolist(), LABELS.tolist()), (PHOTOS.astype(np.float64), LABELS.astype(np.uint8))):
        assert np.array_equal(plain.fit(images, labels, kind).scores(PHOTOS), expected)
    nothing = np.full_like(PHOTOS, np.nan)
    for images in (PHOTOS[:, :8], PHOTOS[0], 2 * PHOTOS, nothing, [[1.0], [2.0, 3.0]]):
        with pytest.raises(ShapeError, match="embeddings"):
            plain.fit(images, LABELS, kind)
    for labels in (LABELS / 1, LABELS[:, None], LABELS > 1, LABELS - 1, LABELS[1:], [None] * 9, [[1], [2, 3]], 5):
        with pytest.raises(ShapeError, match="labels"):
            plain.fit(PHOTOS, labels, kind)
    for labels in (["frog"] * 8 + ["frgo"], LABELS.astype(str)):
        with pytest.raises(InputError, match="of no class"):
            plain.fit(PHOTOS, labels, kind)
    with pytest.raises(InputError, match="none of 9 images can be used"):
        plain.fit(["a.png"] * 9, LABELS, kind)
    with pytest.raises(InputError, match="has its own"):
        plain.fit(label_vectors(PHOTOS, LABELS), LABELS, kind)
    with pytest.raises(InputError, match="unknown phrase"):
        plain.fit(PHOTOS, LABELS, kind, phrase="plian")


@pytest.mark.parametrize("n_new", [1, 9, -1])
def test_a_neighbourhood_does_not_pass_over_what_is_said_of_new_classes(n_new):
    with pytest.raises(InputError, match="new classes in a neighbourhood"):
        Classifier(FakeEncoder(), ZOO).fit(PHOTOS, LABELS, "neighborhood", n_new=n_new)

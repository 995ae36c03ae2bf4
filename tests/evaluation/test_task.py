from pathlib import Path

import pytest

from vlmdesc import Descriptors, Plan, Task
from vlmdesc.errors import InputError
from vlmdesc.evaluation.specs import build, parse

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "eval").glob("*.toml"))
PAPERS = ("cub", "dtd", "eurosat", "food101", "imagenet", "imagenetv2", "pets", "places365")
OFFLINE = ("tiny-imagenet", "imagenet-sample", "imagenet-sample-selection")


@pytest.fixture
def written(tmp_path):
    """Writes a task file beside a descriptor file; gives its path."""
    Descriptors.of({"hen": ["a red comb"], "cat": ["whiskers"]}).save(tmp_path / "zoo.json")

    def write(text):
        path = tmp_path / "task.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


EXPECTED = '[[expected]]\nmodel = "m"\nmethod = "name"\ntop1 = {}\nsource = "s"\n'
WHOLE = 'data = "birds"\ndescriptors = ["zoo.json"]\n'


def test_names_are_looked_for_beside_the_task(written, tmp_path):
    (tmp_path / "birds").mkdir()
    task = Task.load(written(WHOLE + 'methods = ["name", "waffle"]\nseeds = 3\n[aliases]\n"poulet" = "hen"\n'))
    assert task.data == str(tmp_path / "birds") and task.descriptors == (str(tmp_path / "zoo.json"),)
    assert task.methods == ("name", "waffle") and task.seeds == 3
    assert task.aliases == {"poulet": "hen"} and task.expected == ()
    assert Task.load(written('data = "' + "x" * 300 + '"\ndescriptors = ["everyday"]\n')).data == "x" * 300
    with_classes = Task.load(written(WHOLE + 'classes_from = "zoo.json"\n'))
    assert with_classes.classes_from == str(tmp_path / "zoo.json")
    assert Task.load(written('data = "ORG/birds"\ndescriptors = ["everyday"]\n')).data == "ORG/birds"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data = ", "not TOML"),
        (WHOLE + 'metods = ["name"]\n', "unknown key 'metods'; fix: did you mean 'methods'"),
        ('data = "birds"\n', "missing required field `descriptors`"),
        (WHOLE + 'methods = "name"\n', "Expected `array`, got `str` - at `methods`"),
        (WHOLE + "methods = [1]\n", "Expected `str`, got `int` - at `methods[0]`"),
        (WHOLE + "seeds = true\n", "Expected `int`, got `bool` - at `seeds`"),
        (WHOLE + "only_present = 1\n", "Expected `bool`, got `int` - at `only_present`"),
        (WHOLE + "[aliases]\nhen = 3\n", "Expected `str`, got `int` - at `aliases[...]`"),
        ('data = "birds"\ndescriptors = ["birds.json"]\n', "no descriptor file 'birds.json'"),
        (WHOLE + 'classes_from = "zo.json"\n', "no descriptor file 'zo.json'"),
        (
            WHOLE + EXPECTED.format('"0.5"'),
            "at `expected[0].top1`; fix: see the tasks in eval/; top1 and std are fractions",
        ),
        (WHOLE + EXPECTED.format("62.0"), "Expected `float` <= 1.0 - at `expected[0].top1`"),
        (WHOLE + '[[expected]]\nmodel = "fake"\n', "missing required field `method` - at `expected[0]`"),
        (WHOLE + EXPECTED.format("0.5") + "top = 1\n", "unknown field `top` - at `expected[0]`"),
        (WHOLE + 'expected = ["x"]\n', "Expected `object`, got `str` - at `expected[0]`"),
    ],
)
def test_what_is_wrong_in_a_task_is_named(written, text, says):
    with pytest.raises(InputError) as caught:
        Task.load(written(text))
    assert says in f"{caught.value.what}; fix: {caught.value.fix}" and "task.toml" in caught.value.where


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ({"seeds": 0}, "0 seeds"),
        ({"resamples": 10}, "10 resamples"),
        ({"methods": ("descibe",)}, "unknown method"),
        ({"descriptors": ()}, "no descriptors"),
        ({"reference_split": "train"}, "a reference split without a reference"),
        ({"methods": ("few-shot",)}, "learns from labelled images"),
    ],
)
def test_what_is_wrong_is_told_before_the_data_set_is_opened(odd, says):
    with pytest.raises(InputError, match=says):
        Task(**{"data": "nowhere", "descriptors": ("everyday",)} | odd).run()


def test_classes_may_come_from_another_set():
    """Labels that are WordNet ids, or ImageNet's on the hub, find classes of a file that has names only."""
    names = [c.name for c in Descriptors.load(ROOT / "cache/descriptors/imagenet.json").classes]
    assert len(set(names)) == 1000
    task = Task("d", ("imagenet",), classes_from="imagenet")
    [found] = task._sets().values()
    assert found.find("tench, Tinca tinca") == found.find("n01440764") == 0


def test_the_papers_and_the_offline_tasks_ship():
    assert {path.stem for path in SHIPPED} == {*PAPERS, *OFFLINE}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_tasks_are_whole(path, tmp_path, request):
    if path.stem in OFFLINE:
        request.getfixturevalue("shared")  # skips where it is missing
    for name in ("imagenet", *PAPERS):  # what --published would have
        Descriptors.of({"hen": ["a red comb"], "cat": ["whiskers"]}).save(tmp_path / f"descriptors_{name}.json")
    task = Task.load(path, [tmp_path])
    head = path.read_text(encoding="utf-8").partition("name = ")[0]
    assert f"eval/{path.name}" in head and head.startswith("# ")
    assert task.name == path.stem and task.about
    zoo = Descriptors.of({"hen": ["a red comb"], "cat": ["whiskers"]})
    assert build(task.methods, {"zoo": zoo}, Plan(task.phrase, task.pool), bool(task.reference))[1] == {}
    for row in task.expected:
        assert parse(row.method) and 0 < row.top1 < 1 and row.source
        assert row.method in task.methods or "all" in task.methods
    if path.stem in PAPERS:
        models = {row.model for row in task.expected}
        assert models == {f"ViT-{size}-quickgelu/openai" for size in ("B-32", "B-16", "L-14")}


@pytest.mark.parametrize(
    ("task", "model", "method", "top1"),
    [
        ("imagenet", "B-32", "describe:waffleclip", 0.6312),
        ("imagenet", "B-32", "waffle:waffleclip", 0.6331),
        ("imagenetv2", "L-14", "swapped:waffleclip", 0.6644),
        ("eurosat", "B-32", "photo", 0.4076),
        ("food101", "B-32", "describe:dclip", 0.8363),
        ("pets", "L-14", "photo", 0.9330),
        ("dtd", "L-14", "scrambled:waffleclip", 0.5328),
        ("places365", "B-16", "describe:dclip", 0.4034),
        ("cub", "B-32", "random:waffleclip", 0.5242),
    ],
)
def test_published_figures_are_those_of_the_papers(task, model, method, top1, tmp_path):
    for name in ("imagenet", *PAPERS):
        Descriptors.of({"hen": ["a red comb"]}).save(tmp_path / f"descriptors_{name}.json")
    expected = Task.load(ROOT / "eval" / f"{task}.toml", [tmp_path]).expected
    found = [r.top1 for r in expected if (r.model, r.method) == (f"ViT-{model}-quickgelu/openai", method)]
    assert found == [top1]

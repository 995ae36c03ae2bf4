import pickle
from inspect import signature

import pytest

import vlmdesc.cli.app  # noqa: F401 - so that whatever defines an error of its own is imported
from vlmdesc.errors import ImageError, VlmdescError


def below(kind):
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]


@pytest.mark.parametrize("kind", below(VlmdescError))
def test_every_error_goes_to_another_process_with_all_it_says(kind):
    fields = {"code": "truncated", "what": "no classes", "where": "zoo.json:3", "fix": "add one", "details": ("1", "2")}
    error = kind(**{name: fields[name] for name in signature(kind).parameters})
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and vars(again) == vars(error) and again.args == error.args
    assert str(again) == "no classes (zoo.json:3); fix: add one" and again.exit_code == error.exit_code


def test_the_walk_finds_the_tree():
    assert {"InputError", "ShapeError", "ImageError", "AnswerError"} <= {kind.__name__ for kind in below(VlmdescError)}
    assert pickle.loads(pickle.dumps(ImageError("empty", "empty file"))).code == "empty"

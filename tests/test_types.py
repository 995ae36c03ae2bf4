"""Every public function given every type a user may hold: it works, or raises an error of ours that says what to do.

The table is made in a process without beartype, which would refuse wrong types before our own checks do.
"""

import json
import subprocess
import sys

import pytest

IMAGES = (
    "path", "path as text", "bytes", "bytearray", "file", "PIL", "grey", "hwc", "float hwc", "chw tensor",
    "float tensor", "batch", "tensor batch", "list", "mixed list", "generator", "loader", "torch data set", "folder",
    "data set", "hf data set", "pair",
)  # fmt: skip
OTHERS = (
    "None", "a number", "a float", "a dict", "an empty list", "a list of numbers", "a missing path", "a wrong word",
    "text", "texts", "floats beyond 1", "NaN", "five channels", "a vector", "complex numbers", "objects",
    "a closed file", "a text file", "a function", "a shuffling loader", "a class", "class names", "nested lists",
    "int64",
)  # fmt: skip
SEE_IMAGES = ("Classifier", "embed", "load_data", "encoder.images", "survey")
NOT_ALONE = ("pair", "folder")  # for what reads data sets


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Function -> thing -> "works", "refused", or what else came out."""
    command = [sys.executable, __file__, str(tmp_path_factory.mktemp("types"))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


def test_every_cell_works_or_is_an_error_of_ours(table):
    assert {"Classifier", "embed", "load_data", "Labelled.of", "encoder.texts", "Descriptors.load"} <= table.keys()
    wrong = {
        (function, thing): came
        for function, row in table.items()
        for thing, came in row.items()
        if came != "works" and not came.startswith("refused: ")
    }
    assert not wrong


def test_all_that_holds_images_goes_in(table):
    for function in SEE_IMAGES:
        missing = {thing: came for thing, came in table[function].items() if thing in IMAGES and came != "works"}
        alone = function in ("Classifier", "encoder.images")
        assert {thing for thing in missing if not (alone and thing in NOT_ALONE)} == set(), (function, missing)


def test_what_holds_no_images_is_refused_with_what_to_do(table):
    for function in ("Classifier", "encoder.images"):
        worked = {thing for thing in OTHERS if table[function][thing] == "works"}
        assert worked <= {"an empty list", "a shuffling loader"}, (function, worked)
    for thing in ("text", "a number", "None", "bytes"):
        assert table["encoder.texts"][thing].startswith("refused: ")
    assert table["encoder.texts"]["texts"] == table["Descriptors.load"]["class names"] == "works"
    for function, row in table.items():
        for thing, came in row.items():
            assert came == "works" or "fix: " in came, (function, thing, came)


def things(folder):
    """Name -> a function that makes the thing anew: files and generators can be read once."""
    import io
    from pathlib import Path

    import datasets
    import numpy as np
    import torch
    from PIL import Image

    import vlmdesc as vd

    red = np.full((12, 10, 3), (220, 20, 20), np.uint8)
    (folder / "images" / "red").mkdir(parents=True)
    path = folder / "images" / "red" / "0.png"
    Image.fromarray(red).save(path)
    (folder / "note.txt").write_text("no image")
    tensor = torch.from_numpy(red).permute(2, 0, 1)

    class Reds(torch.utils.data.Dataset):
        classes = ("red", "blue")

        def __len__(self):
            return 3

        def __getitem__(self, number):
            return tensor.float() / 255, number % 2

    def closed():
        file = path.open("rb")
        file.close()
        return file

    def loader(**options):
        return torch.utils.data.DataLoader(Reds(), batch_size=2, **options)

    made = {
        "path": lambda: path,
        "path as text": lambda: str(path),
        "bytes": path.read_bytes,
        "bytearray": lambda: bytearray(path.read_bytes()),
        "file": lambda: io.BytesIO(path.read_bytes()),
        "PIL": lambda: Image.fromarray(red),
        "grey": lambda: red[..., 0],
        "hwc": lambda: red,
        "float hwc": lambda: red / 255,
        "chw tensor": lambda: tensor,
        "float tensor": lambda: tensor.float() / 255,
        "batch": lambda: np.stack([red, red]),
        "tensor batch": lambda: torch.stack([tensor, tensor]),
        "list": lambda: [path, str(path)],
        "mixed list": lambda: [red, path.read_bytes(), tensor, path.open("rb")],
        "generator": lambda: (image for image in [red, path]),
        "loader": loader,
        "torch data set": Reds,
        "folder": lambda: path.parent.parent,
        "data set": lambda: vd.load_data(path.parent.parent),
        "hf data set": lambda: datasets.Dataset.from_dict({"image": [path.read_bytes()], "label": ["red"]}),
        "pair": lambda: ([red, path], ["red", "blue"]),
        "None": lambda: None,
        "a number": lambda: 7,
        "a float": lambda: 0.5,
        "a dict": lambda: {"image": 3},
        "an empty list": list,
        "a list of numbers": lambda: [1, 2],
        "a missing path": lambda: folder / "none.png",
        "a wrong word": lambda: "zoo of no name",
        "text": lambda: "a red comb",
        "texts": lambda: ["a red comb", "a blue door"],
        "floats beyond 1": lambda: red * 1.5,
        "NaN": lambda: np.full((8, 8, 3), np.nan),
        "five channels": lambda: np.zeros((8, 8, 5), np.uint8),
        "a vector": lambda: np.zeros(16, np.float32),
        "complex numbers": lambda: red.astype(complex),
        "objects": lambda: np.array([[None, {}]], object),
        "a closed file": closed,
        "a text file": lambda: (folder / "note.txt").open(),
        "a function": lambda: print,
        "a shuffling loader": lambda: loader(shuffle=True),
        "a class": lambda: Path,
        "class names": lambda: ["red", "blue"],
        "nested lists": lambda: [[red], [path]],
        "int64": lambda: red.astype(np.int64),
    }
    assert made.keys() == {*IMAGES, *OTHERS}
    return made


def functions():
    """Name -> a call with one thing; those that this version does not have are left out."""
    import numpy as np

    import vlmdesc as vd
    from vlmdesc.embeddings.pipeline import encode_images

    encoder, zoo = vd.load_encoder("fake"), vd.Descriptors.of({"red": ["red wings"], "blue": ["a blue beak"]})
    classifier, joining = vd.Classifier(encoder, zoo), vd.Joining(allow_absent=True)

    def encode(images):
        for found in encode_images(encoder, images):
            if isinstance(found, vd.VlmdescError):
                raise found

    def embed(data):
        vd.embed(data, encoder, store=False, strict=True)

    known = {
        "Classifier": classifier,
        "Classifier.fit": classifier.fit,
        "encode_images": encode,
        "embed": embed,
        "load_data": lambda data: [*vd.load_data(data)],
        "Labelled.of": lambda data: vd.Labelled.of(data, zoo, encoder, joining=joining, store=False),
        "Labelled.from_arrays": lambda data: vd.Labelled.from_arrays(data, [0]),
        "survey": lambda data: vd.survey(data, zoo),
        "encoder.images": encoder.images,
        "encoder.texts": encoder.texts,
        "Descriptors.load": vd.Descriptors.load,
    }
    for name in ("predict", "predict_proba"):
        if hasattr(classifier, name):
            known[f"Classifier.{name}"] = getattr(classifier, name)
    if hasattr(vd, "Index"):
        index = vd.Index.build([np.zeros((8, 8, 3), np.uint8)], encoder, store=False)
        known |= {"Index.search": index.search, "Index.build": lambda data: vd.Index.build(data, encoder, store=False)}
    return known


def came(call, thing):
    """What a call did."""
    from vlmdesc import VlmdescError

    try:
        call(thing)
    except VlmdescError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "works"


if __name__ == "__main__":
    import os
    import warnings
    from pathlib import Path

    where = Path(sys.argv[1])
    os.environ |= {"VLMDESC_CACHE": str(where / "cache"), "HF_HUB_OFFLINE": "1"}
    os.chdir(where)
    warnings.simplefilter("ignore")
    held = things(where)
    print(json.dumps({name: {kind: came(call, make()) for kind, make in held.items()}
                      for name, call in functions().items()}))  # fmt: skip

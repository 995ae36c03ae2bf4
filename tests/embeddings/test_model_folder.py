"""A model folder or hub repository must never run code of its own."""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from vlmdesc.embeddings import model_keys
from vlmdesc.embeddings.load import load_encoder
from vlmdesc.embeddings.model_folder import check_config, check_text_files
from vlmdesc.errors import ModelError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "hen", "red", "comb"]
BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "hidden_act": "gelu",
    "id2label": {"0": "LABEL_0"},
    "transformers_version": "4.8.2",
}
TEXT = {
    "context_length": 16,
    "vocab_size": len(WORDS),
    "width": 16,
    "heads": 2,
    "layers": 1,
    "hf_tokenizer_name": "any",
    "tokenizer_kwargs": {"clean": "canonicalize", "trust_remote_code": False},
}
CONFIG = {
    "model_cfg": {
        "embed_dim": 16,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 16,
            "layers": 1,
            "width": 32,
            "patch_size": 8,
            "head_width": 16,
            "norm_kwargs": {"eps": 1e-6},
        },
        "text_cfg": TEXT,
    },
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"},
}
TOKENIZER = {
    "tokenizer_class": "BertTokenizer",
    "model_max_length": 16,
    "do_lower_case": True,
    "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "added_tokens_decoder": {"0": {"content": "[PAD]", "lstrip": False, "normalized": False, "special": True}},
}
TOKENS = {"pad_token": "[PAD]", "unk_token": {"content": "[UNK]", "lstrip": False}}
FILES = ("open_clip_config.json", "config.json", "tokenizer_config.json", "special_tokens_map.json")


def write(folder, name, value):
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def change(folder, name, *path, **keys):
    """Set keys at a place in a JSON file of the folder."""
    value = json.loads((folder / name).read_text(encoding="utf-8"))
    place = value
    for key in path:
        place = place[key]
    place |= keys
    write(folder, name, value)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with an open_clip text tower, and one with a tower of transformers; both with a tokenizer of theirs."""
    root = tmp_path_factory.mktemp("models")
    for kind in ("own", "tower"):
        folder = root / kind
        folder.mkdir()
        for name, value in zip(FILES, (CONFIG, BERT, TOKENIZER, TOKENS), strict=True):
            write(folder, name, value)
        (folder / "vocab.txt").write_text("\n".join(WORDS))
        if kind == "tower":
            set_tower(folder, str(folder))
        made = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
        made.pop("custom_text")
        made["text_cfg"]["hf_model_pretrained"] = False
        torch.manual_seed(0)
        model = open_clip.CustomTextCLIP(**made)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return root


def set_tower(folder, name):
    tower = {"hf_model_name": name, "hf_proj_type": "linear", "hf_pooler_type": "cls_pooler"}
    change(folder, "open_clip_config.json", "model_cfg", "text_cfg", **tower)


def copied(base, folder, kind="own"):
    shutil.copytree(base / kind, folder)
    if kind == "tower":
        set_tower(folder, str(folder))
    return folder


class Runs:
    """In a pickle: code that leaves a marker."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def add_code(folder):
    """Python that leaves a marker, as a tokenizer, a configuration and a model."""
    (folder / "evil.py").write_text(
        f"open({str(folder.parent / f'{folder.name}.RAN')!r}, 'w')\n"
        "from transformers import BertConfig, BertModel, BertTokenizer\n"
        "class EvilConfig(BertConfig): pass\n"
        "class EvilModel(BertModel): config_class = EvilConfig\n"
        "class EvilTokenizer(BertTokenizer): pass\n"
    )
    (folder / "__init__.py").write_text((folder / "evil.py").read_text())


def add_pickles(folder):
    runs = Runs(folder.parent / f"{folder.name}.RAN")
    for name in ("vocab.pkl", "vocab.bin", "tokenizer.pkl", "pytorch_model.bin", "model.pt", "added_tokens.pickle"):
        (folder / name).write_bytes(pickle.dumps(runs))


def add_templates(folder):
    reach = (
        "{{ cycler.__init__.__globals__.os.system('touch ' ~ '" + str(folder.parent / f"{folder.name}.RAN") + "') }}"
    )
    change(folder, "tokenizer_config.json", chat_template=[{"name": "default", "template": reach}])
    (folder / "chat_template.jinja").write_text(reach)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "evil.jinja").write_text("{% include 'http://127.0.0.1:9/evil' %}" + reach)


def repository(root, name, files):
    """A repository in a hub cache."""
    folder = root / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    shutil.copytree(files, snapshot)
    return snapshot


AUTO = {"AutoTokenizer": ["evil.EvilTokenizer", None]}
MODEL_MAP = {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.EvilModel"}
TEXT_CFG = ("open_clip_config.json", "model_cfg", "text_cfg")
KWARGS = (*TEXT_CFG, "tokenizer_kwargs")
VISION_CFG = ("open_clip_config.json", "model_cfg", "vision_cfg")
# Each way to code: what is written into which file of which model, and the key that the error names.
REFUSED = {
    "trust in tokenizer_kwargs": ("own", KWARGS, {"trust_remote_code": True}, "trust_remote_code"),
    "trust in text_cfg": ("own", TEXT_CFG, {"trust_remote_code": True}, "trust_remote_code"),
    "trust at the top": ("own", FILES[:1], {"trust_remote_code": True}, "trust_remote_code"),
    "auto_map of a tokenizer": ("own", FILES[2:3], {"auto_map": AUTO}, "evil.EvilTokenizer"),
    "auto_map as it was": ("own", FILES[2:3], {"auto_map": ["evil.EvilTokenizer", None]}, "auto_map"),
    "auto_map among special tokens": ("own", FILES[3:], {"auto_map": AUTO}, "auto_map"),
    "auto_map beside a tokenizer": ("own", FILES[1:2], {"auto_map": MODEL_MAP}, "evil.EvilConfig"),
    "auto_map of a tower": ("tower", FILES[1:2], {"auto_map": MODEL_MAP}, "evil.EvilConfig"),
    "auto_map of a new kind": ("tower", FILES[1:2], {"model_type": "evil", "auto_map": MODEL_MAP}, "evil.EvilConfig"),
    "kind that is none": ("tower", FILES[1:2], {"model_type": ["bert"]}, "model_type"),
    "kind without use": ("tower", FILES[1:2], {"model_type": "rag"}, "model_type"),
    "class of its own": ("own", FILES[2:3], {"tokenizer_class": "EvilTokenizer"}, "EvilTokenizer"),
    "class in config.json": ("own", FILES[1:2], {"tokenizer_class": "EvilTokenizer"}, "EvilTokenizer"),
    "class that is no tokenizer": ("own", FILES[2:3], {"tokenizer_class": "AutoModel"}, "AutoModel"),
    "class that starts a program": ("own", FILES[2:3], {"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapanese"),
    "kernel from a hub": ("tower", FILES[1:2], {"_attn_implementation": "evil/kernel"}, "_attn_implementation"),
    "kernel under its other name": ("tower", FILES[1:2], {"attn_implementation": "evil/kernel"}, "attn_implementation"),
    "quantizer": ("tower", FILES[1:2], {"quantization_config": {"quant_method": "evil"}}, "quantization_config"),
    "another config.json": ("tower", FILES[1:2], {"configuration_files": ["config.4.0.0.json"]}, "configuration_files"),
    "another tokenizer.json": ("own", FILES[2:3], {"fast_tokenizer_files": ["t.4.0.json"]}, "fast_tokenizer_files"),
    "arguments by place": ("own", FILES[2:3], {"init_inputs": ["/etc/passwd"]}, "init_inputs"),
    "vocabulary elsewhere": ("own", FILES[3:], {"vocab_file": "/etc/passwd"}, "vocab_file"),
    "sentencepiece elsewhere": (
        "own",
        FILES[2:3],
        {"sp_model_kwargs": {"model_file": "/etc/passwd"}},
        "sp_model_kwargs",
    ),
    "tokenizer by its kind": ("own", KWARGS, {"tokenizer_type": "rag"}, "tokenizer_type"),
    "tokenizer in GGUF": ("own", KWARGS, {"gguf_file": "evil.gguf"}, "gguf_file"),
    "other vocabulary": ("own", KWARGS, {"bpe_path": "/etc/passwd"}, "bpe_path"),
    "tower of timm in a folder": ("own", VISION_CFG, {"timm_model_name": "local-dir:/tmp"}, "timm_model_name"),
    "tower of timm on a hub": ("own", VISION_CFG, {"timm_model_name": "hf-hub:evil/tower"}, "timm_model_name"),
    "class of a text tower": ("own", TEXT_CFG, {"text_cls": "evil.EvilModel"}, "text_cls"),
    "class of an activation": ("own", VISION_CFG, {"act_kwargs": {"cls": "evil.Act"}}, "cls"),
    "argument of a model": ("own", ("open_clip_config.json", "model_cfg"), {"cast_dtype": "evil"}, "cast_dtype"),
    "tower elsewhere": ("own", TEXT_CFG, {"hf_model_name": "../other"}, "../other"),
    "tower in a home": ("own", TEXT_CFG, {"hf_model_name": "~/other"}, "~/other"),
    "tower that is no name": ("own", TEXT_CFG, {"hf_model_name": ["evil"]}, "hf_model_name"),
    "tower from a hub": ("own", TEXT_CFG, {"hf_model_name": "evil/tower"}, "evil.EvilConfig"),
}
# What lies there and is led to by nothing, and what is broken: neither runs.
HARMLESS = {"python": add_code, "pickles": add_pickles, "templates": add_templates}
BROKEN = ("vocab.txt", "tokenizer.json", "open_clip_model.safetensors")

HARNESS = """
import json, os, sys
import torch, transformers, vlmdesc
from vlmdesc.embeddings import openclip
from vlmdesc.embeddings.load import load_encoder
from vlmdesc.errors import VlmdescError
root, seen = sys.argv[1], []
def hook(event, args):
    if event.startswith(("subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "socket.con",
                         "pickle.find_class")):
        seen.append(f"{event} {args!r}")
    if event in ("import", "open", "exec", "compile"):
        names = [getattr(arg, "co_filename", arg) for arg in args[:2]]
        for name in names:
            if isinstance(name, (str, bytes, os.PathLike)) and os.fsdecode(name).startswith(root):
                if event != "open" or os.fsdecode(name).endswith((".py", ".pyc", ".pkl", ".pickle")):
                    seen.append(f"{event} {os.fsdecode(name)}")
sys.addaudithook(hook)
for name, model in json.loads(sys.stdin.readline()):  # in the lines after it, somebody says yes to everything
    seen.clear()
    says = ""
    if name.startswith("unchecked"):
        openclip.check_config = openclip.check_text_files = lambda *_: None
    try:
        if name == "trusting":
            transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=True)
        elif name == "asked":
            transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(model))
        else:
            load_encoder(model, device="cpu", precision="fp32").texts(["a red hen"])
    except VlmdescError as error:
        says = f"{type(error).__name__}: {error}"
    print("\\n" + json.dumps([name, [says, list(seen)]]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(base, tmp_path_factory):
    """What loading each folder said, and did, in a process that is watched from within."""
    root = tmp_path_factory.mktemp("evil").resolve()
    models = {}
    for number, (name, (kind, (file, *path), keys, _)) in enumerate(REFUSED.items()):
        folder = copied(base, root / f"refused{number}", kind)
        add_code(folder)
        change(folder, file, *path, **keys)
        models[name] = f"local-dir:{folder}"
    for name, add in HARMLESS.items():
        for kind in ("own", "tower"):
            add(copied(base, root / f"{name}-{kind}", kind))
            models[f"{name} {kind}"] = f"local-dir:{root}/{name}-{kind}"
    for name in BROKEN:
        folder = copied(base, root / f"broken-{name}")
        (folder / name).write_bytes(pickle.dumps(Runs(root / "broken.RAN")))
        models[name] = f"local-dir:{folder}"
    tower = repository(root, "evil/tower", base / "tower")
    add_code(tower)
    change(tower, "config.json", auto_map=MODEL_MAP)
    models |= hub_models(base, root)
    for name in ("trusting", "asked"):
        folder = copied(base, root / name)
        add_code(folder)
        change(folder, "tokenizer_config.json", auto_map=AUTO)
        change(folder, "config.json", model_type="evil", auto_map=MODEL_MAP)
    controls = [("trusting", str(root / "trusting")), ("asked", str(root / "asked"))]
    unchecked = (
        "trust in tokenizer_kwargs",
        "auto_map of a tokenizer",
        "auto_map of a tower",
        "auto_map of a new kind",
    )
    ran = watched(root, [*models.items(), *((f"unchecked {name}", models[name]) for name in unchecked), *controls])
    return ran, sorted(path.name for path in root.rglob("*.RAN"))


def hub_models(base, root):
    """Whole models in a hub cache: a good one, and two that are not."""
    good = repository(root, "good/model", base / "own")
    change(good, *TEXT_CFG, hf_tokenizer_name="good/model")
    own = repository(root, "evil/own", base / "own")
    add_code(own)
    change(own, *TEXT_CFG, hf_tokenizer_name="evil/own", tokenizer_kwargs={"trust_remote_code": True})
    change(own, "tokenizer_config.json", auto_map=AUTO)
    other = repository(root, "evil/other", base / "own")
    change(other, *TEXT_CFG, hf_tokenizer_name="evil/own")
    return {name: f"hf-hub:{name}" for name in ("good/model", "evil/own", "evil/other")}


def environment(root):
    hub = {"HF_HOME": str(root), "HF_HUB_CACHE": str(root / "hub"), "HF_MODULES_CACHE": str(root / "modules")}
    return os.environ | hub | {"HF_HUB_OFFLINE": "1"}


def watched(root, models):
    script = root.parent / f"{root.name}-harness.py"
    script.write_text(HARNESS)
    ran = subprocess.run(
        [sys.executable, script, root],
        input=json.dumps(models) + "\n" + "y\n" * 100,
        capture_output=True,
        text=True,
        env=environment(root) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=root.parent,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return dict(json.loads(line) for line in ran.stdout.splitlines() if line.startswith('["'))


def test_the_watch_sees_code_that_runs(outcomes):
    """And nothing else ran."""
    ran, markers = outcomes
    for control in ("trusting", "asked"):
        assert any(event.startswith("exec") and "evil.py" in event for event in ran[control][1])
    assert markers == ["asked.RAN", "trusting.RAN"]
    assert {name for name, (_, events) in ran.items() if events} == {"trusting", "asked"}


def test_code_is_off_even_where_no_list_is_asked(outcomes):
    """Whatever a configuration says, and whoever answers what transformers asks at the terminal."""
    says = {name: says for name, (says, _) in outcomes[0].items() if name.startswith("unchecked")}
    assert len(says) == 4
    assert says["unchecked auto_map of a new kind"].startswith("ModelError: ")


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_lead_to_code_is_refused_by_name(outcomes, name):
    says, _ = outcomes[0][name]
    assert says.startswith("ModelError: ") and REFUSED[name][3] in says and "; fix: " in says


def test_what_leads_nowhere_is_let_lie(outcomes):
    assert [outcomes[0][f"{name} {kind}"][0] for name in HARMLESS for kind in ("own", "tower")] == [""] * 6
    assert all(outcomes[0][name][0].startswith("ModelError: ") for name in BROKEN)


def test_a_hub_repository_is_held_to_the_same(outcomes):
    ran, _ = outcomes
    assert ran["good/model"][0] == ""
    assert '"trust_remote_code": true' in ran["evil/own"][0]
    assert "evil.EvilTokenizer" in ran["evil/other"][0]


def test_the_command_line_refuses_without_a_traceback(base, tmp_path):
    root = tmp_path.resolve()
    folder = copied(base, root / "evil")
    add_code(folder)
    change(folder, *KWARGS, trust_remote_code=True)
    change(folder, "tokenizer_config.json", auto_map=AUTO)
    Image.new("RGB", (20, 20), (200, 10, 10)).save(root / "a.png")
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "vlmdesc",
            "classify",
            "a.png",
            "--classes",
            "cat,dog",
            "--model",
            f"local-dir:{folder}",
        ],
        capture_output=True,
        text=True,
        env=environment(root) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=root,
        check=False,
    )
    assert ran.returncode == 2 and "Traceback" not in ran.stderr
    assert '"trust_remote_code": true' in ran.stderr and "evil.EvilTokenizer" in ran.stderr
    assert not list(root.glob("*.RAN"))


def test_every_model_of_open_clip_is_on_the_list():
    for name in open_clip.list_models():
        check_config({"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}, Path(name))


# As the hub has them: what open_clip's own text towers and tokenizers are described with.
KNOWN = {
    "mt5": (
        """_name_or_path architectures d_ff d_kv d_model decoder_start_token_id dropout_rate eos_token_id
        feed_forward_proj initializer_factor is_encoder_decoder layer_norm_epsilon model_type num_decoder_layers
        num_heads num_layers output_past pad_token_id relative_attention_num_buckets tie_word_embeddings tokenizer_class
        transformers_version use_cache vocab_size""",
        {
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "extra_ids": 0,
            "additional_special_tokens": None,
            "special_tokens_map_file": "/home/somebody/.cache/torch/transformers/686f",
            "tokenizer_file": None,
            "name_or_path": "google/mt5-small",
            "model_max_length": 1000000000000000019884624838656,
            "sp_model_kwargs": {},
            "tokenizer_class": "T5Tokenizer",
        },
    ),
    "m2m_100": (
        """_name_or_path activation_dropout activation_function architectures attention_dropout bos_token_id d_model
        decoder_attention_heads decoder_ffn_dim decoder_layerdrop decoder_layers decoder_start_token_id dropout
        encoder_attention_heads encoder_ffn_dim encoder_layerdrop encoder_layers eos_token_id init_std
        is_encoder_decoder max_length max_position_embeddings model_type num_hidden_layers pad_token_id scale_embedding
        tokenizer_class torch_dtype transformers_version use_cache vocab_size""",
        {
            "src_lang": None,
            "tgt_lang": None,
            "additional_special_tokens": ["ace_Arab", "zho_Hant"],
            "mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "single_word": False},
            "sp_model_kwargs": {},
            "tokenizer_class": "NllbTokenizerFast",
        },
    ),
    "xlm-roberta": (
        """architectures attention_probs_dropout_prob bos_token_id eos_token_id hidden_act hidden_dropout_prob
        hidden_size initializer_range intermediate_size layer_norm_eps max_position_embeddings model_type
        num_attention_heads num_hidden_layers output_past pad_token_id position_embedding_type transformers_version
        type_vocab_size use_cache vocab_size""",
        {"model_max_length": 512},
    ),
    "gemma": (
        "model_type hidden_size head_dim rope_theta",
        {
            "add_bos_token": False,
            "add_eos_token": True,
            "extra_special_tokens": {},
            "padding_side": "right",
            "processor_class": "SiglipProcessor",
            "spaces_between_special_tokens": False,
            "use_default_system_prompt": False,
            "tokenizer_class": "GemmaTokenizerFast",
        },
    ),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_files_as_hubs_have_them_are_on_the_list(tmp_path, kind):
    names, tokenizer = KNOWN[kind]
    special = {"model_type": kind, "tokenizer_class": "T5Tokenizer", "torch_dtype": "float32"}
    write(tmp_path, "config.json", {name: special.get(name, 1) for name in names.split()})
    write(tmp_path, "tokenizer_config.json", tokenizer)
    tower = {"hf_model_name": str(tmp_path)} if kind != "gemma" else {}
    text = {"hf_tokenizer_name": "any", **tower}
    check_config({"model_cfg": {"text_cfg": text}, "preprocess_cfg": {}}, tmp_path / FILES[0], tmp_path)
    check_text_files(text, tmp_path)


@pytest.mark.parametrize("kind", sorted(model_keys.KINDS))
def test_what_transformers_writes_of_a_kind_is_on_the_list(tmp_path, kind):
    transformers.CONFIG_MAPPING[kind]().save_pretrained(tmp_path)
    text = {"hf_tokenizer_name": "any", **({"hf_model_name": str(tmp_path)} if kind in model_keys.TOWERS else {})}
    check_config({"model_cfg": {"text_cfg": text}, "preprocess_cfg": {}}, tmp_path / FILES[0], tmp_path)
    check_text_files(text, tmp_path)


def saved(name, folder):
    """Whether a tokenizer without words was made and saved."""
    try:
        getattr(transformers, f"{name}Tokenizer")().save_pretrained(folder)
    except (AttributeError, ImportError, NotImplementedError, TypeError, ValueError):  # it wants files, or a package
        return False
    return True


def test_what_tokenizers_of_transformers_write_is_on_the_list(tmp_path):
    made = [name for name in sorted(model_keys.TOKENIZERS) if saved(name, tmp_path / name)]
    assert {"Bert", "DebertaV2"} <= {*made}
    for name in made:
        found = {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "any"}}, "preprocess_cfg": {}}
        check_config(found, tmp_path / name / FILES[0], tmp_path / name)


def test_a_timm_repository_beside_a_tokenizer_is_no_text_model(tmp_path):
    timm = {"architecture": "vit_base_patch16_siglip_224", "num_classes": 0, "pretrained_cfg": {"tag": "webli"}}
    write(tmp_path, "config.json", timm)
    found = {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "any"}}, "preprocess_cfg": {}}
    check_config(found, tmp_path / FILES[0], tmp_path)


DANGEROUS = """auto_map trust_remote_code code_revision custom_pipeline custom_pipelines tokenizer_object gguf_file
_from_auto _configuration_file configuration_files transformers_weights quantization_config kernel_config device_map
adapter_kwargs subfolder cache_dir config proxies tokenizer_type init_inputs fast_tokenizer_files pretrained
pretrained_cfg_overlay pretrained_image_path pretrained_text_path model_cls text_cls vision_cls __class__ __reduce__
cast_dtype jit bpe_path reduction_mask attn_implementation experts_implementation slow_tokenizer""".split()


def places(value, path=()):
    """Each dict in a JSON value."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from places(inner, (*path, key))


def strange_key(rng):
    letters = "abcdefghijklmnopqrstuvwxyz_"
    return rng.choice(DANGEROUS) if rng.random() < 0.5 else "".join(rng.choices(letters, k=rng.randint(9, 20)))


def spoil(rng, folder):
    """One more key at a random place of a random file: which."""
    name = rng.choice(FILES)
    value = json.loads((folder / name).read_text(encoding="utf-8"))
    path, place = rng.choice([*places(value)])
    key = strange_key(rng)
    evil = [True, "evil/evil", 7, None, "evil.EvilTokenizer", ["evil.EvilTokenizer", None], AUTO, MODEL_MAP, {"a": {}}]
    place[key] = rng.choice(evil)
    write(folder, name, value)
    return name, path, key


def test_a_thousand_extra_keys_are_refused_or_lie_where_nothing_is_read(base, tmp_path):
    """Free are only the names of labels, and what the tokens in a tokenizer's files are like."""
    rng = random.Random(0)  # noqa: S311
    folder = copied(base, tmp_path / "tower", "tower")
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in FILES}
    for _ in range(1000):
        name, path, key = spoil(rng, folder)
        try:
            found = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
            check_config(found, folder / FILES[0], folder)
            check_text_files(found["model_cfg"]["text_cfg"], folder)
        except ModelError as error:
            assert any(f'"{word}"' in str(error) for word in (key, *path)) and name in str(error)
        else:
            assert (name, *path[:1]) in {
                ("config.json", "id2label"),
                ("tokenizer_config.json", "added_tokens_decoder"),
                ("special_tokens_map.json", "unk_token"),
            }
        (folder / name).write_text(texts[name], encoding="utf-8")


@pytest.mark.slow
def test_models_with_an_extra_key_are_refused_or_the_same(base, tmp_path):
    rng = random.Random(1)  # noqa: S311
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8))

    def vectors(folder):
        encoder = load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
        return np.concatenate([encoder.images([image]), encoder.texts(["a red hen", "comb"])])

    wanted = {kind: vectors(base / kind) for kind in ("own", "tower")}
    for number in range(60):
        kind = rng.choice(["own", "tower"])
        folder = copied(base, tmp_path / str(number), kind)
        spoil(rng, folder)
        with suppress(ModelError):
            assert np.array_equal(vectors(folder), wanted[kind])
    assert transformers.dynamic_module_utils.TIME_OUT_REMOTE_CODE > 0  # as it was

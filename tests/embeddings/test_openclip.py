"""The real loading code, on small models with random weights that the tests write."""

import json
import pickle
import shutil

import numpy as np
import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg
from PIL import Image
from safetensors.torch import save_file

from vlmdesc.embeddings import openclip
from vlmdesc.embeddings.load import load_encoder
from vlmdesc.embeddings.starter import TEXT
from vlmdesc.errors import EndpointError, ModelError, StoreError, VlmdescWarning

VISION = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
VIT = {
    "embed_dim": 32,
    "vision_cfg": VISION,
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
# A text tower as SigLIP has it: own tokenizer, no causal mask, last token pooled, projection with bias.
SIGLIP = {
    "embed_dim": 32,
    "custom_text": True,
    "init_logit_bias": -10,
    "vision_cfg": VISION,
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 30522,
        "width": 32,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "hf_tokenizer_name": "local",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    },
}
PREPROCESS = {
    "vit": {
        "mean": [0.48, 0.46, 0.41],
        "std": [0.27, 0.26, 0.28],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
    "siglip": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"},
}
CONFIGS = {"vit": VIT, "siglip": SIGLIP}
TEXTS = ["hen, which has a red comb", "zebra", "a photo of an owl."]


def save_model(folder, kind):
    """A folder as open_clip saves them, and the model whose weights it holds."""
    folder.mkdir(exist_ok=True)
    config = {"model_cfg": CONFIGS[kind], "preprocess_cfg": PREPROCESS[kind]}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    if kind == "siglip":
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            shutil.copy(TEXT.path().with_name(name), folder)
    torch.manual_seed(0)
    made = json.loads(json.dumps(CONFIGS[kind]))
    custom = made.pop("custom_text", False)
    model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**made).eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return model


@pytest.fixture(scope="module", params=["vit", "siglip"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, save_model(folder, request.param)


def test_a_saved_model_gives_the_same_embeddings_when_loaded(saved, photos):
    kind, folder, model = saved
    encoder = load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
    images = [Image.open(path).convert("RGB") for path in photos.values()]
    config = open_clip.PreprocessCfg if hasattr(open_clip, "PreprocessCfg") else openclip.PreprocessCfg
    preprocess = openclip.image_transform_v2(config(size=32, **PREPROCESS[kind]), is_train=False)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.inference_mode():
        pixels = torch.stack([preprocess(image) for image in images])
        by_hand = torch.nn.functional.normalize(model.encode_image(pixels), dim=-1).numpy()
        words = torch.nn.functional.normalize(model.encode_text(tokenizer(TEXTS)), dim=-1).numpy()
    assert np.abs(encoder.images(images) - by_hand).max() < 1e-6
    assert np.abs(encoder.texts(TEXTS) - words).max() < 1e-6
    assert encoder.images(images).dtype == np.float32


def test_pixels_before_normalisation_are_open_clips_own(saved, photos):
    kind, folder, _ = saved
    encoder = load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
    image = Image.open(photos["temple"]).convert("RGB")
    cfg = openclip.PreprocessCfg(size=32, **PREPROCESS[kind])
    ours = (
        torch.from_numpy(encoder.prepare(image)).permute(2, 0, 1).float() / 255 - torch.tensor(cfg.mean).view(3, 1, 1)
    ) / torch.tensor(cfg.std).view(3, 1, 1)
    assert torch.equal(ours, openclip.image_transform_v2(cfg, is_train=False)(image))


def test_fingerprints_follow_weights_and_preprocessing(tmp_path):
    save_model(tmp_path / "a", "vit")
    first = load_encoder(f"local-dir:{tmp_path}/a", device="cpu", precision="fp32").fingerprint
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert (
        load_encoder(f"local-dir:{tmp_path}/b", device="cpu", precision="fp32").fingerprint == first
    )  # the place does not matter
    config = {"model_cfg": VIT, "preprocess_cfg": PREPROCESS["vit"] | {"resize_mode": "squash"}}
    (tmp_path / "b" / "open_clip_config.json").write_text(json.dumps(config))
    assert load_encoder(f"local-dir:{tmp_path}/b", device="cpu", precision="fp32").fingerprint != first
    config = {"model_cfg": VIT | {"quick_gelu": True}, "preprocess_cfg": PREPROCESS["vit"]}
    (tmp_path / "b" / "open_clip_config.json").write_text(json.dumps(config))
    assert load_encoder(f"local-dir:{tmp_path}/b", device="cpu", precision="fp32").fingerprint != first


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A local checkpoint of one of open_clip's own architectures."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32-alt", pretrained=None)
    path = tmp_path_factory.mktemp("checkpoint") / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    torch.save(model.state_dict(), path.with_suffix(".pt"))
    return path


def test_a_local_checkpoint_of_a_known_architecture(checkpoint, monkeypatch):
    known = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    monkeypatch.setattr(openclip, "list_pretrained_tags_by_model", lambda name: ["only"])
    monkeypatch.setattr(openclip, "get_pretrained_cfg", lambda name, tag: known)
    safe = load_encoder(f"ViT-S-32-alt/@{checkpoint}", device="cpu", precision="fp32")
    unsafe = load_encoder(f"ViT-S-32-alt/@{checkpoint.with_suffix('.pt')}", device="cpu", precision="fp32")
    assert safe.fingerprint == unsafe.fingerprint
    assert np.array_equal(safe.texts(TEXTS), unsafe.texts(TEXTS))
    assert safe._built.recipe["preprocess"]["resize_mode"] == "squash"  # the weights' own, not open_clip's default
    assert safe.n_tokens("a hen") == 4


def test_a_checkpoint_whose_preprocessing_is_unknown_is_refused(checkpoint):
    with pytest.raises(ModelError, match=r"preprocessing of ViT-S-32-alt weights is not known.*local-dir"):
        load_encoder(f"ViT-S-32-alt/@{checkpoint}")


def test_every_known_tag_is_built_with_its_own_activation_or_refused():
    for architecture, tag in open_clip.list_pretrained():
        wanted = bool(get_pretrained_cfg(architecture, tag).get("quick_gelu", False))
        try:
            spec = openclip.parse(f"{architecture}/{tag}")
        except ModelError as error:
            assert "QuickGELU" in str(error) and not wanted
        else:
            built = spec.quick_gelu or openclip._has_quick_gelu(architecture)
            assert built == wanted, (architecture, tag)


def test_quick_gelu_reaches_the_model(checkpoint, monkeypatch):
    spec = openclip.Spec("ViT-S-32-alt", str(checkpoint), quick_gelu=True)
    monkeypatch.setattr(openclip, "parse", lambda name: spec)
    kinds = {type(module).__name__ for module in openclip.build("any").model.modules()}
    assert "QuickGELU" in kinds and "GELU" not in kinds


def test_the_fingerprint_knows_the_tokenizer(tmp_path):
    save_model(tmp_path / "a", "siglip")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    file = tmp_path / "b" / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["wheel"], vocabulary["owl"] = vocabulary["owl"], vocabulary["wheel"]
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    a, b = (load_encoder(f"local-dir:{tmp_path}/{name}", device="cpu", precision="fp32") for name in "ab")
    assert a.fingerprint != b.fingerprint


def test_a_full_disk_or_a_missing_package_is_not_called_a_hub_that_is_away():
    full = openclip._unreachable("ViT-B-32/openai", OSError(28, "No space left on device"))
    assert isinstance(full, StoreError) and "No space left" in str(full)
    missing = openclip._unreachable("x/y", ImportError("install transformers"))
    assert isinstance(missing, ModelError) and "install transformers" in str(missing)


def test_openai_weights_get_quick_gelu(monkeypatch):
    assert openclip.parse("ViT-B-32/openai").quick_gelu
    assert not openclip.parse("ViT-B-32/laion2b_s34b_b79k").quick_gelu
    with pytest.raises(ModelError, match="has no weights 'laion2b_s34b_b79k'"):
        openclip.parse("ViT-B-32-quickgelu/laion2b_s34b_b79k")
    monkeypatch.setattr(openclip, "get_pretrained_cfg", lambda *_: {"hf_hub": "somebody/weights"})
    with pytest.raises(ModelError, match="built with QuickGELU but 'new' was trained with GELU; fix: use ViT-B-32/new"):
        openclip.parse("ViT-B-32-quickgelu/new")


def test_local_openai_weights_without_quick_gelu_are_refused_and_others_warned_of(checkpoint, tmp_path, monkeypatch):
    path = tmp_path / "openai-vit.safetensors"
    shutil.copy(checkpoint, path)
    with pytest.raises(ModelError, match="ViT-B-32-quickgelu/@"):
        load_encoder(f"ViT-B-32/@{path}")
    assert openclip.activation_is_a_guess("ViT-B-32/@x.safetensors")
    assert not openclip.activation_is_a_guess("ViT-B-32/openai")
    monkeypatch.setattr(openclip, "_local_file", lambda *_: openclip.Spec("ViT-S-32-alt", str(checkpoint)))
    with pytest.warns(VlmdescWarning, match="built with GELU"):
        load_encoder("ViT-B-32/@x.safetensors", device="cpu", precision="fp32")


class Payload:
    """Code in a pickle: it would leave a marker."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth", ".safetensors"])
def test_code_in_a_checkpoint_is_never_run(tmp_path, monkeypatch, suffix):
    marker, path = tmp_path / "marker", tmp_path / f"weights{suffix}"
    monkeypatch.setattr(openclip, "_local_file", lambda *_: openclip.Spec("ViT-S-32-alt", str(path)))
    for write in (
        lambda: torch.save({"weight": Payload(marker)}, path),
        lambda: path.write_bytes(pickle.dumps(Payload(marker))),
    ):
        write()
        with pytest.raises(ModelError, match=r"refused|cannot load"):
            load_encoder(f"ViT-S-32-alt/@{path}")
        assert not marker.exists()


def test_bad_names_folders_and_files_are_refused_with_advice(tmp_path):
    cases = {
        "ViT-B-23/openai": "did you mean 'ViT-B-32'",
        "strater": "did you mean 'starter'",
        "ViT-B-32/laion2b": "name one of its tags",
        "ViT-B-32": "name one of its tags",
        f"ViT-B-32/@{tmp_path}/none.safetensors": "checkpoint not found",
        f"local-dir:{tmp_path}": "no readable open_clip_config.json",
    }
    for name, says in cases.items():
        with pytest.raises(ModelError, match=says):
            load_encoder(name)
    (tmp_path / "weights.npz").touch()
    with pytest.raises(ModelError, match="convert it to safetensors"):
        load_encoder(f"ViT-B-32/@{tmp_path}/weights.npz")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": VIT}))
    with pytest.raises(ModelError, match='no "preprocess_cfg"'):
        load_encoder(f"local-dir:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": VIT, "preprocess_cfg": PREPROCESS["vit"]}))
    with pytest.raises(ModelError, match="no weights"):
        load_encoder(f"local-dir:{tmp_path}")


def test_weights_of_another_architecture_or_cut_short(tmp_path):
    save_model(tmp_path, "vit")
    other = json.loads(json.dumps(VIT))
    other["vision_cfg"]["width"] = 128
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": other, "preprocess_cfg": PREPROCESS["vit"]})
    )
    with pytest.raises(ModelError, match=r"cannot load.*belong to this architecture"):
        load_encoder(f"local-dir:{tmp_path}")
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load"):
        load_encoder(f"local-dir:{tmp_path}")


def test_an_unreachable_hub_offers_the_starter(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("ViT-B-32/laion2b_s34b_b79k", "hf-hub:nobody/nothing"):
        with pytest.raises(EndpointError, match=r"starter.*local checkpoint") as error:
            load_encoder(name)
        assert name in str(error.value) and error.value.exit_code == 3

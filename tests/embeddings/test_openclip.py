"""The real loading code, on small models with random weights that the tests write."""

import json
import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg
from PIL import Image
from safetensors.torch import save_file

from vlmdesc.embeddings import openclip
from vlmdesc.embeddings.encoder import OpenClipEncoder
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
MEANS = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic"}
PREPROCESS = {"vit": MEANS | {"resize_mode": "shortest"}, "siglip": MEANS | {"resize_mode": "squash"}}
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


def local(folder):
    return load_encoder(f"local-dir:{folder}", device="cpu")


@pytest.fixture(scope="module", params=["vit", "siglip"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, save_model(folder, request.param)


def test_a_saved_model_gives_the_same_embeddings_when_loaded(saved, photos):
    kind, folder, model = saved
    encoder = local(folder)
    images = [Image.open(path).convert("RGB") for path in photos.values()]
    preprocess = openclip.image_transform_v2(openclip.PreprocessCfg(size=32, **PREPROCESS[kind]), is_train=False)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.inference_mode():
        pixels = torch.stack([preprocess(image) for image in images])
        by_hand = torch.nn.functional.normalize(model.encode_image(pixels), dim=-1).numpy()
        words = torch.nn.functional.normalize(model.encode_text(tokenizer(TEXTS)), dim=-1).numpy()
    assert np.abs(encoder.images(images) - by_hand).max() < 1e-6
    assert np.abs(encoder.texts(TEXTS) - words).max() < 1e-6
    assert encoder.images(images).dtype == np.float32


def test_fingerprints_follow_weights_and_preprocessing(tmp_path):
    save_model(tmp_path / "a", "vit")
    first = local(tmp_path / "a").fingerprint
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert local(tmp_path / "b").fingerprint == first  # the place does not matter
    config = {"model_cfg": VIT, "preprocess_cfg": PREPROCESS["vit"] | {"resize_mode": "squash"}}
    (tmp_path / "b" / "open_clip_config.json").write_text(json.dumps(config))
    assert local(tmp_path / "b").fingerprint != first
    config = {"model_cfg": VIT | {"quick_gelu": True}, "preprocess_cfg": PREPROCESS["vit"]}
    (tmp_path / "b" / "open_clip_config.json").write_text(json.dumps(config))
    assert local(tmp_path / "b").fingerprint != first


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


def test_the_fingerprint_knows_the_tokenizer(tmp_path):
    save_model(tmp_path / "a", "siglip")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    file = tmp_path / "b" / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["wheel"], vocabulary["owl"] = vocabulary["owl"], vocabulary["wheel"]
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    a, b = (local(tmp_path / name) for name in "ab")
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
    monkeypatch.setattr(openclip, "_local_file", lambda *_: openclip.Recipe("ViT-S-32-alt", str(checkpoint)))
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
    monkeypatch.setattr(openclip, "_local_file", lambda *_: openclip.Recipe("ViT-S-32-alt", str(path)))
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


def tiny(precision="fp32", scale=1.0, size=32, resize_mode="shortest"):
    """A small CLIP whose last projections are scaled; fp16 ends at 65,504."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**json.loads(json.dumps(VIT)))
    with torch.no_grad():
        for name in ("visual.proj", "text_projection"):
            model.get_parameter(name).mul_(scale)
    config = openclip.PreprocessCfg(**PREPROCESS["vit"] | {"size": size, "resize_mode": resize_mode})
    steps = openclip.image_transform_v2(config, is_train=False).transforms[:-2]
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    built = openclip.Built(model, tokenizer, steps, tuple(config.mean), tuple(config.std), 32, 32, {})
    return OpenClipEncoder("tiny", built, "cpu", precision)


def test_what_overflows_in_half_precision_is_computed_again():
    half, exact = tiny("fp16", 4e4), tiny("fp32", 4e4)
    with torch.inference_mode():
        assert not torch.isfinite(half._through(half._model, "encode_text", half._built.tokenizer(TEXTS))).all()
    assert (half.texts(TEXTS) * exact.texts(TEXTS)).sum(axis=1).min() > 0.99
    assert next(half._model.parameters()).dtype == torch.float16


@pytest.fixture
def restless():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_texts_are_read_and_counted_in_several_threads_at_once(tmp_path, restless):
    """Tokenizers of the hub keep how they cut and pad: a count in one thread must not change a text in another."""
    save_model(tmp_path, "siglip")
    encoder = local(tmp_path)
    long = "red " * 60

    def ask(i):
        return encoder.n_tokens(long) if i % 2 else encoder._tokens([long, "a hen"]).tolist()

    alone = [ask(0), ask(1)]
    with ThreadPoolExecutor(8) as pool:
        assert all(found == alone[i % 2] for i, found in enumerate(pool.map(ask, range(400))))


@pytest.mark.parametrize("kind", ["vit", "siglip"])
def test_an_encoder_goes_to_another_process_without_its_files(kind, tmp_path, photos):
    save_model(tmp_path / "model", kind)
    encoder = local(tmp_path / "model")
    image = Image.open(photos["cat"]).convert("RGB")
    data = pickle.dumps(encoder)
    shutil.rmtree(tmp_path / "model")
    again = pickle.loads(data)
    assert again.fingerprint == encoder.fingerprint and again.prepare(image).box == encoder.prepare(image).box
    assert np.array_equal(again.texts(TEXTS), encoder.texts(TEXTS))
    assert np.array_equal(again.images([image]), encoder.images([image]))


def test_an_encoder_that_overflowed_goes_to_another_process_as_it_was():
    encoder = tiny("fp16", 4e4)
    texts, fresh = encoder.texts(TEXTS), len(pickle.dumps(tiny("fp16", 4e4)))
    data = pickle.dumps(encoder)
    assert np.array_equal(pickle.loads(data).texts(TEXTS), texts) and len(data) < 1.1 * fresh


def test_what_is_not_finite_in_fp32_either_is_an_error():
    with pytest.raises(ModelError, match="not a finite direction"):
        tiny("fp32", float("inf")).texts(["a hen"])


@pytest.fixture
def alone_on_a_core():
    """Threads of ours times threads of torch's would be more than there are cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_forwards_that_overflow_give_in_four_threads_what_they_give_in_one(alone_on_a_core):
    """Nearly all of these images overflow in fp16, and most of the texts."""
    encoder, rng = tiny("fp16", 4e4), np.random.default_rng(0)
    batches = [rng.integers(0, 256, (2, 32, 32, 3), np.uint8) for _ in range(240)]
    with torch.inference_mode():
        found = encoder._through(encoder._model, "encode_image", encoder._normalize(np.concatenate(batches)))
    assert torch.isfinite(found).all(dim=1).float().mean() < 0.1
    alone = [encoder.forward(pixels) for pixels in batches]
    words = [encoder.texts([f"hen {i}"]) for i in range(40)]
    shared = tiny("fp16", 4e4)
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(shared.forward, batches)
        spoken = pool.map(lambda i: shared.texts([f"hen {i}"]), range(40))
        assert shared.fingerprint == encoder.fingerprint
        assert all(map(np.array_equal, together, alone)) and all(map(np.array_equal, spoken, words))


def ramp(width, height):
    """An image that says where it is: red grows with x, green with y; blue is all over."""
    x, y = ((np.arange(n) + 0.5) / n * 255 for n in (width, height))
    image = np.full((height, width, 3), 255.0)
    image[..., 0], image[..., 1] = x, y[:, None]
    return Image.fromarray(image.round().astype(np.uint8))


@pytest.mark.parametrize("size", [32, (24, 32)])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("sides", [(400, 100), (101, 403), (333, 333), (32, 24), (45, 7), (6, 9)])
def test_the_box_says_where_in_the_image_each_pixel_was(sides, resize_mode, size):
    prepared = tiny(size=size, resize_mode=resize_mode).prepare(ramp(*sides))
    (height, width, _), (left, top, right, bottom) = prepared.pixels.shape, prepared.box
    assert (height, width) == ((32, 32) if size == 32 else size)
    x = left + (np.arange(width) + 0.5) / width * (right - left)
    y = top + (np.arange(height) + 0.5) / height * (bottom - top)
    outside = (x < 0) | (x > 1) | ((y < 0) | (y > 1))[:, None]
    assert (prepared.pixels[outside] == 0).all() and (prepared.pixels[~outside, 2] == 255).all()
    assert resize_mode == "longest" or not outside.any()
    for places, colour, n in ((np.tile(x, (height, 1)), 0, sides[0]), (np.tile(y, (width, 1)).T, 1, sides[1])):
        wrong = (prepared.pixels[..., colour] / 255 - places)[~outside]
        assert abs(wrong.mean()) < 0.003 and np.abs(wrong).max() < 0.008 + 0.5 / n


def test_the_box_by_hand(starter):
    """600 x 400 becomes 438 x 292, of which the middle 260 x 260 are seen; so of half the image."""
    wanted = [89 / 438, 16 / 292, 349 / 438, 276 / 292]
    for sides in ((600, 400), (300, 200)):
        assert starter.prepare(Image.new("RGB", sides)).box == pytest.approx(wanted, abs=1e-12)
    assert tiny(resize_mode="longest").prepare(ramp(64, 32)).box == (0.0, -0.5, 1.0, 1.5)
    assert tiny(resize_mode="squash").prepare(ramp(64, 32)).box == (0.0, 0.0, 1.0, 1.0)


def test_no_images_and_no_texts_are_arrays_of_the_right_width(starter):
    for encoder in (starter, tiny()):
        assert encoder.dim == encoder.texts(["a hen"]).shape[1] == encoder.images([ramp(40, 40)]).shape[1]
        assert encoder.texts([]).shape == encoder.images([]).shape == (0, encoder.dim)

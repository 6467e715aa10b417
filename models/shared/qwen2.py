"""Qwen2 language model: transformers' MLP and norms around an own attention. The caller gets keys before and after
rotation, and decides what is attended to and where it is kept.

Parameter names are those of transformers' `Qwen2Model`, and `lm_head.weight`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from evalkit.errors import CheckpointError

from .cost import LanguageSize
from .torchvision_import import import_torchvision

import_torchvision()  # before transformers, which would import it as it is

from transformers import Qwen2Config  # noqa: E402
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm  # noqa: E402

Attend = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(layer, rotated q `[heads, n, d]`, unrotated k, rotated k, v `[kv heads, n, d]`) -> output `[heads, n, d]`."""

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine `[n, d/2]` in float32."""


def rope_theta(config: Qwen2Config) -> float:
    """The rotary base. Raises CheckpointError for scaled variants (YaRN, ...), which shift every position."""
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind != "default":
        raise CheckpointError(
            f"config.json asks for rotary positions of type {kind!r}; this decoder has 'default' alone."
        )
    return float(rope.get("rope_theta") or getattr(config, "rope_theta", None) or 10000.0)


class Rope:
    """Rotary position embedding (Su et al., arXiv:2104.09864), two halves as in Qwen2. Angles in float32."""

    def __init__(self, dim: int, theta: float) -> None:
        self.dim, self.theta = dim, theta

    def at(self, positions: Tensor) -> Rotation:
        """Rotation of `positions [n]`."""
        exponents = torch.arange(0, self.dim, 2, dtype=torch.float32, device=positions.device) / self.dim
        angles = positions.to(torch.float32)[:, None] / self.theta**exponents
        return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate `x [heads, n, d]`, in float32, to a new tensor of its dtype."""
    cos, sin = rotation
    half = x.shape[-1] // 2
    a, b = x[..., :half].float(), x[..., half:].float()
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    torch.mul(a, cos, out=out[..., :half]).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=out[..., half:]).addcmul_(a, sin)
    return out.to(x.dtype)


class SelfAttention(nn.Module):
    def __init__(self, size: LanguageSize) -> None:
        super().__init__()
        self.dim = size.head_dim
        q, kv = size.heads * size.head_dim, size.kv_heads * size.head_dim
        self.q_proj = nn.Linear(size.hidden, q, bias=True)
        self.k_proj = nn.Linear(size.hidden, kv, bias=True)
        self.v_proj = nn.Linear(size.hidden, kv, bias=True)
        self.o_proj = nn.Linear(q, size.hidden, bias=False)

    def heads(self, x: Tensor) -> Tensor:
        """`[n, heads * d]` -> `[heads, n, d]`."""
        return x.view(x.shape[0], -1, self.dim).transpose(0, 1)


class Layer(nn.Module):
    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.self_attn = SelfAttention(LanguageSize.of(config))
        self.mlp = Qwen2MLP(config)
        self.input_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of rows `x`, unrotated."""
        attention, h = self.self_attn, self.input_layernorm(x)
        q, k, v = (project(h) for project in (attention.q_proj, attention.k_proj, attention.v_proj))
        return attention.heads(q), attention.heads(k), attention.heads(v)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values alone."""
        attention, h = self.self_attn, self.input_layernorm(x)
        return attention.heads(attention.k_proj(h)), attention.heads(attention.v_proj(h))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual stream behind this layer, given what rows `x` attended to `[heads, n, d]`."""
        x = x + self.self_attn.o_proj(attended.transpose(0, 1).reshape(x.shape[0], -1))
        return x + self.mlp(self.post_attention_layernorm(x))


class Qwen2Decoder(nn.Module):
    """Rows are tokens `[n, hidden]` without a batch axis: `attend` decides what each of them sees."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.config = config
        self.size = LanguageSize.of(config)
        self.rope = Rope(self.size.head_dim, rope_theta(config))
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def device(self) -> torch.device:
        return self.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.norm.weight.dtype

    def embed(self, ids: Tensor) -> Tensor:
        return self.embed_tokens(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """Final norm and head of rows that left the last layer, in float32."""
        return self.lm_head(self.norm(hidden)).float()

    def run(self, x: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """All layers over rows `x` at `positions [n]`: the residual stream behind the last layer."""
        rotation = self.rope.at(positions)
        for index in range(len(self.layers)):
            x = self.block(index, x, rotation, attend)
        return x

    def fill(
        self, x: Tensor, positions: Tensor, attend: Attend, keep: Callable[[Tensor, Tensor, Tensor], None]
    ) -> None:
        """All that rows `x` leave in a KV store. The residual stream behind the last layer of a context is not used,
        so that layer computes keys and values alone, for `keep(unrotated k, rotated k, v)`."""
        rotation = self.rope.at(positions)
        last = len(self.layers) - 1
        for index in range(last):
            x = self.block(index, x, rotation, attend)
        k, v = self.layer(last).keys_values(x)
        keep(k, rotate(k, rotation), v)

    def layer(self, index: int) -> Layer:
        layer = self.layers[index]
        assert isinstance(layer, Layer)
        return layer

    def block(self, index: int, x: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        """One layer over rows `x`."""
        layer = self.layer(index)
        q, k, v = layer.project(x)
        return layer.finish(x, attend(index, rotate(q, rotation), k, rotate(k, rotation), v))

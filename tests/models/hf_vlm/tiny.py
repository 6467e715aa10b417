"""Tiny checkpoints of several families: real configurations, networks and processors with random weights, and a
tokenizer that is trained here on a few sentences."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from evalkit.models.hf_vlm.checkpoint import need_torchvision
from evalkit.models.hf_vlm.mini import randomize, train_tokenizer
from evalkit.models.shared.made_once import made_once
from evalkit.paths import cache_dir

need_torchvision()

TEXT = ["What is it?", "Who is there? (A) one (B) two\nAnswer.", "Why does it rain?", "You are helpful. Frame 1: 0.5 s"]
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
M_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'video' %}VIDEO"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


WORDS = ("im_start", "vision_start", "vision_end", "image_pad", "video_pad")


def tokenizer(*special: str) -> Any:
    return train_tokenizer("\n".join(TEXT), special, special[0])


def gpt2_tokenizer(*special: str) -> Any:
    """Byte-level BPE with the pieces of GPT-2, where the last of several line ends may join what follows."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([*TEXT, "one\n\ntwo\n\n"], trainer)
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token=special[0], pad_token=special[1])


def qwen(name: str, **text_settings: Any) -> tuple[Any, Any]:
    """Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""
    token = tokenizer(
        "<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
    )
    ids = {
        f"{key}_token_id": token.convert_tokens_to_ids(f"<|{word}|>")
        for key, word in {
            "image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"
        }.items()
    }  # fmt: skip
    text = LANGUAGE | M_ROPE | text_settings | {"vocab_size": len(token)}
    patch = 16 if name == "Qwen3VL" else 14
    size = {"shortest_edge": 4 * patch * patch, "longest_edge": 16 * patch * patch}
    vision = {
        "Qwen2VL": {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        "Qwen2_5_VL": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
                       "fullatt_block_indexes": [1], "window_size": 56},
        "Qwen3VL": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
                    "deepstack_visual_indexes": [0], "num_position_embeddings": 16},
    }[name]  # fmt: skip
    if name == "Qwen3VL":
        text |= {"head_dim": 8}
        size["longest_edge"] *= 16  # of all frames together
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision, **ids)
    family = "Qwen3VL" if name == "Qwen3VL" else "Qwen2VL"
    images = transformers.Qwen2VLImageProcessor(patch_size=patch, size=size)
    videos = getattr(transformers, f"{family}VideoProcessor")(patch_size=patch, size=size)
    template = CHATML.replace("VIDEO", "<|vision_start|><|video_pad|><|vision_end|>")
    processor = getattr(transformers, f"{name}Processor")(images, token, videos, chat_template=template)
    return getattr(transformers, f"{name}ForConditionalGeneration")(config), processor


def siglip() -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "vision_use_head": False,
    }  # fmt: skip


def llava_onevision() -> tuple[Any, Any]:
    token = tokenizer("<|im_end|>", "<|im_start|>", "<image>", "<video>")
    config = transformers.LlavaOnevisionConfig(
        vision_config=siglip(),
        text_config=LANGUAGE | {"model_type": "qwen2", "vocab_size": len(token)},
        image_token_index=token.convert_tokens_to_ids("<image>"),
        video_token_index=token.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[56, 56]],
    )
    size = {"height": 56, "width": 56}
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[56, 56]]),
        token,
        transformers.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHATML.replace("VIDEO", "<video>\n"),
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config), processor


def internvl() -> tuple[Any, Any]:
    words = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    token = tokenizer("<|im_end|>", "<|im_start|>", *words.values())
    token._set_model_specific_special_tokens(words)
    config = transformers.InternVLConfig(
        vision_config={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": [56, 56], "patch_size": [14, 14]},
        text_config=LANGUAGE | {"model_type": "qwen2", "vocab_size": len(token)},
        image_token_id=token.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )  # fmt: skip
    size = {"height": 56, "width": 56}
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size=size),
        token,
        transformers.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=CHATML.replace("VIDEO", "<video>\n"),
    )
    return transformers.InternVLForConditionalGeneration(config), processor


def smolvlm() -> tuple[Any, Any]:
    words = ["<end_of_utterance>", "<|im_end|>", "<|im_start|>", "<fake_token_around_image>", "<image>", "<global-img>"]
    token = gpt2_tokenizer(*words, "<video>")
    config = transformers.SmolVLMConfig(
        vision_config={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": 56, "patch_size": 14},
        text_config=LANGUAGE | {"model_type": "llama", "vocab_size": len(token), "pad_token_id": 1},
        image_token_id=token.convert_tokens_to_ids("<image>"),
        pad_token_id=token.pad_token_id,
        scale_factor=2,
    )  # fmt: skip
    size = {"longest_edge": 56}
    processor = transformers.SmolVLMProcessor(
        transformers.SmolVLMImageProcessor(size=size, max_image_size=size),
        token,
        transformers.SmolVLMVideoProcessor(
            size=size, max_image_size=size, video_sampling={"fps": 1, "max_frames": 64, "video_size": size}
        ),
        image_seq_len=4,
    )
    return transformers.SmolVLMForConditionalGeneration(config), processor


def llava_next_video() -> tuple[Any, Any]:
    token = tokenizer("</s>", "<image>", "<video>")
    vision = siglip() | {"model_type": "clip_vision_model"}
    del vision["vision_use_head"]
    config = transformers.LlavaNextVideoConfig(
        vision_config=vision,
        text_config=LANGUAGE | {"model_type": "llama", "vocab_size": len(token)},
        image_token_index=token.convert_tokens_to_ids("<image>"),
        video_token_index=token.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[56, 56]],
    )
    template = (
        "{% for m in messages %}{{ m.role | upper }}: {% for c in m.content %}{% if c.type == 'video' %}<video>\n"
        "{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
    )
    size = {"height": 56, "width": 56}
    processor = transformers.LlavaNextVideoProcessor(
        transformers.LlavaNextVideoVideoProcessor(size=size, crop_size=size),
        transformers.LlavaNextImageProcessor(size=size, image_grid_pinpoints=[[56, 56]]),
        token,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    return transformers.LlavaNextVideoForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_vl": lambda: qwen("Qwen2VL"),
    "qwen2_5_vl": lambda: qwen("Qwen2_5_VL"),
    "sliding_window": lambda: qwen("Qwen2_5_VL", use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "qwen3_vl": lambda: qwen("Qwen3VL"),
    "llava_onevision": llava_onevision,
    "llava_next_video": llava_next_video,
    "internvl": internvl,
    "smolvlm": smolvlm,
}


def checkpoint(family: str) -> Path:
    """The folder of a family's tiny checkpoint, made on first use."""

    def write(place: Path) -> None:
        network, processor = FAMILIES[family]()
        randomize(network)
        network.generation_config = transformers.GenerationConfig(
            eos_token_id=processor.tokenizer.eos_token_id, pad_token_id=processor.tokenizer.pad_token_id
        )
        network.save_pretrained(place)
        processor.save_pretrained(place)

    version = sha256((Path(__file__).read_text() + transformers.__version__).encode()).hexdigest()[:12]
    return made_once(cache_dir() / "models" / f"tiny-{family}-{version}", write)

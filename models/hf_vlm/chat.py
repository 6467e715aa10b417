"""The chat around a video: rendered by the checkpoint's own template, and cut behind the video.

    {system text}{... video ...}{question}{end of turn, start of the reply}{answer prefix}
    |------- prefix, once for each video -------|--------- tail, for each question --------|

The cut is behind the last special token in front of the question (`<|vision_end|>`, `<video>`). Tokenizers split text
at special tokens before anything else, so that no token crosses the cut and `encode(prefix) + encode(tail)` is
`encode(whole)`. Where a template or tokenizer does otherwise, there is no cut and nothing is reused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from evalkit.errors import ModelError
from evalkit.types import Context, Prompt

MARK = "EVALKITQUESTIONMARK"
"""Stands for the question in a rendered chat, to find where questions begin."""


@dataclass(frozen=True)
class Cut:
    """Where the chat of one video is cut. `ids`: token ids of the prefix, placeholders of the video expanded. `anchor`:
    the special token that ends it. `bridge`: text between the anchor and the question."""

    ids: tuple[int, ...]
    anchor: int
    bridge: str


class NoCut(Exception):
    """Why the chat cannot be cut; the message is for the manifest."""


class Chat:
    """Renders and tokenizes. `cues`: what happens to subtitles that stand between frames."""

    def __init__(self, processor: Any, cues: str = "refuse") -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.cues = cues
        found = (getattr(processor, name, None) for name in ("video_token", "image_token"))
        self.placeholders = [token for token in found if isinstance(token, str)]
        self.added = set(self.tokenizer.added_tokens_decoder)

    def rendered(self, context: Context, question: str) -> str:
        """The whole chat as text, up to where the reply begins; the video is one placeholder."""
        text = self.subtitles(context) + question
        for placeholder in self.placeholders:
            if placeholder in text + (context.system or ""):
                raise ModelError(f"The text holds {placeholder}, which this model reads as the place of a picture.")
        content = [{"type": "video"}, {"type": "text", "text": text}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if context.system is not None:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": context.system}]})
        try:
            return str(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except jinja2.TemplateError as error:
            raise ModelError(
                f"The chat template of this model refuses the messages of the protocol ({error}). Choose a protocol "
                "without system text, or name a template with model.chat_template=<file>."
            ) from error

    def subtitles(self, context: Context) -> str:
        """Subtitles as lines behind the video. Raises ModelError where the settings refuse them."""
        if not context.cues:
            return ""
        if self.cues == "refuse":
            raise ModelError(
                "The protocol puts subtitles between the frames, and the chat template of this model has one place for "
                "the whole video. Set model.cues=after_video to put them behind it, or choose another protocol."
            )
        return "".join(cue.text + "\n" for cue in sorted(context.cues, key=lambda cue: cue.at))

    def before(self, context: Context) -> str:
        """The chat in front of the question."""
        before, mark, _ = self.rendered(context, MARK).partition(MARK)
        if not mark:
            raise ModelError("The chat template of this model leaves out the text of the user.", kind="failed")
        return before

    def check_order(self, before: str) -> None:
        """Raises NoCut where the video does not stand in front of the question."""
        placeholder = getattr(self.processor, "video_token", None)
        if placeholder and placeholder not in before:
            raise NoCut("the chat template puts the video behind the question")

    def cut(self, ids: Sequence[int]) -> Cut:
        """`ids`: those of the chat in front of the question, as the processor gives them. Raises NoCut."""
        last = next((i for i in range(len(ids) - 1, -1, -1) if ids[i] in self.added), None)
        if last is None:
            raise NoCut("the tokenizer has no special token between the video and the question")
        behind = list(ids[last + 1 :])
        bridge = self.tokenizer.decode(behind, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        cut = Cut(tuple(ids[: last + 1]), ids[last], bridge)
        if self.tail_ids(cut, "") != behind:
            raise NoCut("the tokenizer does not give the same tokens for the text between the video and the question")
        return cut

    def tail(self, context: Context, before: str, prompt: Prompt) -> str | None:
        """What follows `before` for this question; None where the template changes what stands in front of it."""
        whole = self.rendered(context, prompt.text)
        return whole[len(before) :] + prompt.answer_prefix if whole.startswith(before) else None

    def tail_ids(self, cut: Cut, tail: str) -> list[int] | None:
        """Token ids behind the cut, encoded as they are behind its special token; None where that is not possible."""
        anchor = self.tokenizer.convert_ids_to_tokens(cut.anchor)
        ids = list(self.tokenizer.encode(anchor + cut.bridge + tail, add_special_tokens=False))
        return ids[1:] if ids[:1] == [cut.anchor] else None

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

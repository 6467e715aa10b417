"""Tokens and dollars of a chat endpoint for the dry run. How many tokens a frame takes only the server knows."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.model import Estimate, Estimator, QuestionEstimate
from evalkit.types import Context, Decoding, Prompt

from .settings import OpenAI

_CHARS_PER_TOKEN = 4


class EndpointEstimator(Estimator):
    """Each question is sent, and paid, together with the whole video."""

    exact = False

    def __init__(self, settings: OpenAI) -> None:
        self.settings = settings
        self.remarks = tuple(self._remarks())

    def _remarks(self) -> list[str]:
        settings = self.settings
        if settings.tokens_per_frame is None:
            priced = " and dollars" if settings.price.input is not None else ""
            return [f"tokens{priced} are not known: set model.tokens_per_frame to what the server counts for a frame"]
        return [
            f"tokens are estimated: {settings.tokens_per_frame} a frame (model.tokens_per_frame) and one for "
            f"{_CHARS_PER_TOKEN} characters of text",
            "dollars are for replies of full length, at the full price of each request's video; no request is repeated"
            if settings.price.input is not None
            else "dollars are not known: set model.price.input and model.price.output",
        ]

    def estimate(self, context: Context, prompts: Sequence[Prompt], decoding: Decoding) -> Estimate:
        per_frame = self.settings.tokens_per_frame
        if per_frame is None:
            return Estimate()
        visual = len(context.frames.plan) * per_frame
        shared = visual + _tokens((context.system or "") + "".join(cue.text for cue in context.cues))
        questions = []
        for prompt in prompts:
            tokens = shared + _tokens(prompt.text + prompt.answer_prefix)
            dollars = self.settings.price.dollars(tokens, decoding.max_new_tokens)
            questions.append(QuestionEstimate(tokens, dollars=dollars))
        return Estimate(visual, shared, questions=tuple(questions))


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARS_PER_TOKEN)

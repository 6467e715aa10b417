"""The judge of VideoMathQA's chains of thought: it says which option a reply chooses, and scores the steps.

Texts and rules: github.com/EvolvingLMMs-Lab/lmms-eval, tasks/videomathqa/cot_postprocess.py and cot_step_evaluation.py,
which the benchmark's own repository names. The published judge is Qwen3-4B: without thinking for the letter
(temperature 0.7, 16 tokens), with thinking for the steps (temperature 0.6, 32,768 tokens), averaged over three runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evalkit.errors import EvalkitError
from evalkit.scoring.extract import seeded_choice
from evalkit.scoring.reasoning import strip_reasoning
from evalkit.types import Grade, Question

if TYPE_CHECKING:
    from evalkit.scoring.judge import Judge, Messages

_LETTER = (
    "Given the original {kind} options and a model-generated answer containing reasoning and a final answer, identify "
    "the option that best matches the final answer and return only the corresponding letter ({letters})."
)
_KINDS = {"ABCDE": ("multiple-choice", "A, B, C, D, or E"), "AB": ("binary", "A or B")}

# Trailing blanks and the long dashes are the original's.
_RUBRIC = "\n".join(
    (
        "",
        "You are a intelligent assistant for grading math question solutions. You will be given:",
        "- A mathematical question (question) with multiple-choice options (options).",
        "- A list of numbered ground truth steps (gt_steps) showing the correct reasoning to solve a math problem.",
        "- A answer (answer) that is the correct final solution to the question.",
        "- A model prediction (prediction) that includes the steps the model followed and possibly the final answer.",
        "",
        "TASK: Compare the prediction to gt_steps and assign a score out of 10 using the rubric below. You must reward "
        "both matching logic and valid alternative reasoning. Avoid overly strict step-by-step comparison, instead "
        "focus if the model follows a coherent and plausible mathematical approach.",
        "",
        "---",
        "",
        "### Scoring Rubric:",
        "",
        "#### 1. Relative Step Matching (Main Criterion)",
        "- Count the total number of ground truth steps: N",
        "- Evaluate how many predicted steps correctly align with gt_steps in terms of mathematical logic, reasoning, "
        "or computations. ",
        "- Score = (matching steps / N) × 10, rounded to nearest whole number. ",
        "- Remember: A step MATCHES if it serves the same mathematical purpose, even if phrased or ordered "
        "differently.",
        "",
        "#### 2. Correct Final Answer via Different Reasoning",
        "- If the model's final answer is correct, and the steps are logically valid (even if they differ from "
        "gt_steps), assign a full score of 10.",
        "- Ignore number of matching steps in this case unless the reasoning is clearly flawed or incoherent.",
        "- Carefully analyze if predicted alternative reasoning includes incorrect observations that contradict parts "
        "of the ground truth. Reduce the score proportionally even if the final answer is correct.",
        "- Remember: Reward even PARTIALLY correct reasoning if the steps are accurate, meaningful and follow a valid "
        "alternative path to the correct answer.",
        "",
        "#### 3. **Implicit or Inferred Steps**",
        "- Do NOT penalize if early steps are skipped, but later logic clearly depends on them.",
        '- E.g., if a model does not mention "identify the chart," but proceeds to use values from that chart '
        "correctly, assume the step was completed implicitly.",
        "- Remember: ALWAYS check for implied steps before reducing the score. Credit should be given when logic shows "
        "the step was likely understood.",
        "",
        "#### 4. **Ignore Superficial Differences**  ",
        "- Do NOT deduct score for formatting, using a different notation or variable names, or additional "
        "clarifications.",
        "- Remember: FOCUS on the underlying mathematical meaning rather than literal step-by-step matching.",
        "",
        "---",
        "",
        "**Output Format: Score Dict (strict):**  ",
        'SCORE_CARD: {"matched_steps": "X/N", "final_answer_correct": <0 or 1>, "critique": "<2–3 sentence summary>", '
        '"score": <0–10>}',
        "",
        "Be strict when awarding credit. Do NOT be lenient. Carefully evaluate how far the model's reasoning aligns "
        "with the ground truth steps before assigning a score.",
        "",
    )
)
_FORMAT = (
    'SCORE_CARD: {"matched_steps": "X/N", "final_answer_correct": <0 or 1>, "critique": "<2–3 sentence summary>", '
    '"score": <0–10>}'
)


def letter_messages(options: Sequence[str], reply: str, letters: str) -> Messages:
    """The chat that asks for the chosen letter. As published, its last sentence names five letters also where there are
    two options."""
    kind, named = _KINDS[letters]
    text = (
        f"{_LETTER.format(kind=kind, letters=named)}:\n\nText:\nThe options are: {list(options)}\n\n "
        f"The model response is: {reply}\n\nOnly return the letter A, B, C, D, or E. If none is found, return "
        '"None".'
    )
    return [{"role": "user", "content": text}]


def step_messages(question: Question, reply: str) -> Messages:
    """The chat that asks for a score of the steps. The options are printed as a NumPy array, as the published code
    does."""
    options = np.array(question.options, dtype=object)
    text = (
        f"\nINSTRUCTIONS: {_RUBRIC}\n\nQUESTION: {question.text}\n\nOPTIONS: {options}\n\nGROUND TRUTH STEPS:\n"
        f"{json.dumps(question.meta['steps'], indent=2)}\n\nCORRECT FINAL ANSWER:\n{question.gold}\n\nPREDICTION:\n"
        f"{reply}\n\nNow evaluate this prediction and return the response in the specified format: {_FORMAT}\n\n"
    )
    return [{"role": "user", "content": text}]


@dataclass(frozen=True)
class ChainOfThought:
    """Grades a chain of thought by the letter that the judge names, as the published scorer does: where the judge names
    none, a wrong letter is drawn by question id.

    `letters`: of the options. `steps`: ask also for a score of the steps, from 0 to 10. A score card that cannot be
    read counts as 0 and stays in the mean; the value `unreadable` counts these.
    """

    letters: str
    steps: bool
    judge: Judge | None = None

    def chats(self, question: Question, reply: str) -> list[Messages]:
        """All that the judge is asked about a reply."""
        letter = [letter_messages(question.options, reply, self.letters)]
        return [*letter, step_messages(question, reply)] if self.steps else letter

    def grade(self, question: Question, reply: str) -> Grade:
        if self.judge is None:
            return Grade(None, note="not judged: no judge is set", graded=False)
        try:
            judgements = [self.judge.ask(chat) for chat in self.chats(question, reply)]
        except EvalkitError as error:
            return Grade(None, note=f"not judged: {error}", graded=False)
        letter = strip_reasoning(judgements[0]).text.strip().upper()
        named = len(letter) == 1 and letter in self.letters
        notes = [] if named else [f"the judge names no letter: {judgements[0][:100]!r}"]
        if not named:
            letter = seeded_choice(question.id, [other for other in self.letters if other != question.gold])
        values: dict[str, float] = {}
        if self.steps:
            values, note = _step_values(judgements[1])
            notes += [note] if note else []
        rule = "judge" if named else "judge: random wrong letter"
        return Grade(float(letter == question.gold), letter, rule, named, values, "; ".join(notes))


def _step_values(judgement: str) -> tuple[dict[str, float], str]:
    from evalkit.scoring.judge_replies import read_score_card

    card = read_score_card(judgement)
    if card is None:
        return {"steps": 0.0, "unreadable": 1.0}, f"the judge's score card cannot be read: {judgement[-200:]!r}"
    return {"steps": card.score, "unreadable": 0.0}, ""

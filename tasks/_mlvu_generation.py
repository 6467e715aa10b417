"""MLVU's generation tasks, sub-scene captioning and video summary: scored from 2 to 10 by a judge without the video.

The judge is asked in the words of the official scripts, byte for byte, indentation included:
github.com/JUNJIE99/MLVU, evaluation/generation_evaluation/evaluate_ssc.py and evaluate_summary.py (the judge there is
gpt-4-turbo at temperature 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from textwrap import indent
from typing import TYPE_CHECKING

from evalkit.scoring.grade import Judged
from evalkit.scoring.judge_replies import read_scores
from evalkit.types import FramePlan, Grade, Question, VideoQuestions

if TYPE_CHECKING:
    from evalkit.scoring.judge import Judge, Messages

SYSTEM = (
    "Carefully watch this video and pay attention to every detail. "
    "Based on your observations, answer the given questions."
)

_SUB_SCENE = """\
##TASK DESCRIPTION:\x20
You are required to evaluate a respondent's answer based on a provided question, some scoring points, and the respondent's answer. You should provide two scores. The first is the accuracy score, which should range from 1 to 5. The second is the relevance score, which should also range from 1 to 5. Below are the criteria for each scoring category.
##ACCURACY Scoring Criteria:\x20
Evaluate the respondent's answer against specific scoring points as follows:
Score 1: The response completely misses the scoring point.
Score 3: The response mentions content related to the scoring point but is not entirely correct.
Score 5: The response accurately addresses the scoring point.
Calculate the average score across all scoring points to determine the final accuracy score.
##RELEVANCE Scoring Criteria:
Assess how the respondent's answer relates to the original question:
Score 1: The response is completely off-topic from the question.
Score 2: The response is partially related to the question but contains a significant amount of irrelevant content.
Score 3: The response primarily addresses the question, but the respondent seems uncertain about their own answer.
Score 4: The response mostly addresses the question and the respondent appears confident in their answer.
Score 5: The response is fully focused on addressing the question with no irrelevant content and demonstrates complete certainty.
----
##INSTRUCTION:
1. Evaluate Accuracy: First, assess and score each scoring point based on the respondent's answer. Calculate the average of these scores to establish the final accuracy score. Provide a detailed rationale before assigning your score.
2. Evaluate RELEVANCE: Assess the relevance of the respondent’s answer to the question. Note that when evaluating relevance, the correctness of the answer is not considered; focus solely on how relevant the answer is to the question. Provide a comprehensive rationale before assigning your score.
3. Output Scores in JSON Format: Present the scores in JSON format as follows:
{'score_accuracy': score_acc, 'score_relevance': score_rele, 'total_score': score_acc + score_rele}
"""  # noqa: E501

_SUMMARY = """\
##TASK DESCRIPTION:\x20
You are required to evaluate the performance of the respondent in the video summarization task based on the standard answer and the respondent's answer. You should provide two scores. The first is the COMPLETENESS score, which should range from 1 to 5. The second is the RELIABILITY score, which should also range from 1 to 5. Below are the criteria for each scoring category:
##COMPLETENESS Scoring Criteria:
The completeness score focuses on whether the summary covers all key points and main information from the video.\x20
Score 1: The summary hardly covers any of the main content or key points of the video.
Score 2: The summary covers some of the main content and key points but misses many.
Score 3: The summary covers most of the main content and key points.
Score 4: The summary is very comprehensive, covering most to nearly all of the main content and key points.
Score 5: The summary completely covers all the main content and key points of the video.
##RELIABILITY Scoring Criteria:
The reliability score evaluates the correctness and clarity of the video summary. It checks for factual errors, misleading statements, and contradictions with the video content. If the respondent's answer includes details that are not present in the standard answer, as long as these details do not conflict with the correct answer and are reasonable, points should not be deducted.
Score 1: Contains multiple factual errors and contradictions; presentation is confusing.
Score 2: Includes several errors and some contradictions; needs clearer presentation.
Score 3: Generally accurate with minor errors; minimal contradictions; reasonably clear presentation.
Score 4: Very accurate with negligible inaccuracies; no contradictions; clear and fluent presentation.
Score 5: Completely accurate with no errors or contradictions; presentation is clear and easy to understand.
----
##INSTRUCTION:
1. Evaluate COMPLETENESS: First, analyze the respondent's answer according to the scoring criteria, then provide an integer score between 1 and 5 based on sufficient evidence.\x20
2. Evaluate RELIABILITY: First, analyze the respondent's answer according to the scoring criteria, then provide an integer score between 1 and 5 based on sufficient evidence.\x20
3. Output Scores in JSON Format: Present the scores in JSON format as follows:
{'score_completeness': score_comp, 'score_reliability': score_reli, 'total_score': score_comp + score_reli}
"""  # noqa: E501

_ASK = "Please score the respondent's answer according to the steps in the Instructions. You must end with a JSON dict to store the scores."  # noqa: E501


def prompt(item: VideoQuestions, q: Question, plan: FramePlan) -> str:
    return q.text


def _chat(system: str, user: str) -> Messages:
    """The two messages, each indented as in its script."""
    return [{"role": "system", "content": _indented(system)}, {"role": "user", "content": user}]


def _indented(text: str) -> str:
    return "\n" + indent(text, " " * 28) + " " * 24


def sub_scene_messages(q: Question, reply: str) -> Messages:
    points = list(q.meta["scoring_points"])
    question = q.text.replace("\n", "")
    lines = [_ASK, f"Question: {question}", f"Scoring Points: {points}", f"Respondent's Answer: {reply}"]
    return _chat(_SUB_SCENE, _user(lines))


def summary_messages(q: Question, reply: str) -> Messages:
    return _chat(_SUMMARY, _user([_ASK, f"Standard Answer: {q.gold}", f"Respondent's Answer: {reply}"]))


def _user(lines: list[str]) -> str:
    """Only the first row of each of `lines` is indented, as by the script's format string."""
    return "\n" + "".join(f"{' ' * 28}{line}\n" for line in lines) + " " * 24


def _read(keys: tuple[str, ...], reply: str) -> Mapping[str, float] | None:
    return read_scores(reply, keys, low=0, high=5)


def _names_none(keys: tuple[str, ...], reply: str) -> bool:
    """Whether a reply that is not empty holds none of the scores' names."""
    return bool(reply.strip()) and not any(key in reply for key in keys)


@dataclass(frozen=True)
class Generation:
    """Sub-scene captions are graded for accuracy and relevance, summaries for completeness and reliability, each from 1
    to 5; the score is the sum of the two. A judge's reply that names neither score counts as 0, as in calculate.py,
    which crashes at a score that is not a number."""

    judge: Judge | None = None

    def chats(self, question: Question, reply: str) -> list[Messages]:
        """All requests to the judge about one reply."""
        return self.judged(question).chats(question, reply)

    def grade(self, question: Question, reply: str) -> Grade:
        return self.judged(question).grade(question, reply)

    def judged(self, question: Question) -> Judged:
        if question.groups["task"] == ("sub_scene",):
            keys = ("score_accuracy", "score_relevance")
            return Judged(sub_scene_messages, partial(_read, keys), keys, self.judge, zero=partial(_names_none, keys))
        keys = ("score_completeness", "score_reliability")
        return Judged(summary_messages, partial(_read, keys), keys, self.judge, zero=partial(_names_none, keys))

"""How published scorers read an option letter from a reply.

Each extractor repeats one scorer's rule with its defects, because published numbers contain them: lmms-eval reads
`Answer: C` as C, the original Video-MME script reads it as A. Only `tolerant` is our own rule. All run in linear time
on any input. What a pipeline does to a reply before its extractor is in `reasoning.py`.

    name              alias  rule of
    lmms_eval         E1     lmms-eval 0.7 `mcq_extract`: MLVU, Video-MME, LVBench
    video_mme         E2     Video-MME `eval_your_results.py`; VideoMathQA and Video-XL-2 use it too
    video_mme_vlmek          the copy in VLMEvalKit, which also deletes "Answer:" and "Option:"
    longvideobench           the copy in lmms-eval's LongVideoBench (letters A-E), whose list of phrases is whole
    mlvu              E3     MLVU `choice_bench.py`
    lvbench           E4     LVBench `answer_util.py`
    mvbench           E5     lmms-eval MVBench `mcq_acc`; Video-XL-2 and VideoChat-Flash on LVBench (letters A-E)
    vnbench           E6     VideoNIAH `eval.py`
    nextqa            E7     lmms-eval NExT-QA, after MMMU `parse_multi_choice_response`
    first_character          VideoNIAH `llava_examples/evaluation_utils.py`
    paren                    Video-XL `eval_vnbench.py`, whose output VideoNIAH `eval.py` then reads
    needle                   Video-XL's needle test
    tolerant                 evalkit
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evalkit.errors import ConfigError, suggest


@dataclass(frozen=True, slots=True)
class Extracted:
    """`value`: one of the letters, or None.
    `rule`: the part of the extractor that decided.
    `ok`: the reply named the letter; False for a random draw.
    `text`: what the rule read, before it was compared with the letters.
    """

    value: str | None
    rule: str
    ok: bool
    text: str = ""


class Read(NamedTuple):
    text: str
    rule: str


Rule = Callable[[str, Sequence[str], str], Read]
"""(reply, options, letters) -> the text it reads as the answer, and by which part of the rule."""


@dataclass(frozen=True)
class Extractor:
    """A named rule. `draws`: if the rule finds nothing, a letter is drawn with the question id as the seed."""

    name: str
    rule: Rule
    alias: str = ""
    draws: bool = False

    def extract(
        self, reply: str, options: Sequence[str] = (), question_id: str = "", letters: str = "ABCD"
    ) -> Extracted:
        text, rule = self.rule(reply, options, letters)
        if len(text) == 1 and text in letters:
            return Extracted(text, rule, True, text)
        if self.draws:
            return Extracted(seeded_choice(question_id, letters), "random", False, text)
        return Extracted(None, rule, False, text)


def seeded_choice(question_id: str, letters: Sequence[str]) -> str:
    """A random letter, the same for a question id on every machine and in every run. `letters` must not be empty."""
    digest = hashlib.sha256(question_id.encode("utf-8", "surrogatepass")).digest()
    return letters[int.from_bytes(digest[:8], "big") % len(letters)]


# lmms_eval (E1) ------------------------------------------------------------------------------------------------------

_STRIPPED = (",", ".", "!", "?", ";", ":", "'", '"')
_PHRASES = (
    "the answer is",
    "answer is",
    "the correct answer is",
    "correct answer is",
    "the best answer is",
    "best answer is",
    "the correct option is",
    "correct option is",
    "the best option is",
    "best option is",
    "the choice is",
    "choice is",
    "the correct choice is",
    "correct choice is",
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    "옵션",
    "정답은",
    "답은",
    "답:",
    "答案是",
    "答案为",
    "选",
    "答えは",
)
_FORMATS = (("(X)", 6), ("X.", 5), ("X:", 4), ("X)", 3), ("X ", 2))


def _lmms_eval(reply: str, options: Sequence[str], letters: str) -> Read:
    core = _strip_each(reply.strip(), _STRIPPED)
    text = f" {core} "
    core = core.strip()
    found: list[tuple[int, int, str, str]] = []  # (rank, position, letter, rule): highest rank, then last position
    for letter in letters:
        if core.startswith(letter) and not core[1:2].isalpha():
            found.append((10, 0, letter, "start"))
        if core.endswith(letter) and not core[-2:-1].isalpha():
            found.append((9, len(text), letter, "end"))
        for shape, rank in _FORMATS:
            if (at := text.rfind(shape.replace("X", letter))) >= 0:
                found.append((rank, at, letter, shape))
    lower = text.lower()
    for phrase in _PHRASES:
        if (start := lower.find(phrase)) >= 0:
            after = start + len(phrase)
            found += [(7, at, letter, "phrase") for letter in letters if (at := text.find(letter, after)) >= 0]
    if not found:
        found = [(0, at, letter, "anywhere") for letter in letters if (at := text.rfind(letter)) >= 0]
    if not found:
        return Read("", "none")
    _, _, letter, rule = max(found, key=lambda candidate: candidate[:2])
    return Read(letter, rule)


def _strip_each(text: str, marks: Iterable[str]) -> str:
    """Strip one kind of mark after the other, each once."""
    for mark in marks:
        text = text.strip(mark)
    return text


# video_mme (E2) ------------------------------------------------------------------------------------------------------

_SHORT_PREFIXES = ("The best answer is", "The correct answer is", "The answer is", "The answer")
# In the original a comma is missing between two string literals, twice, and the joined phrases never match.
# LongVideoBench's copy has the commas.
_FUSED_PREFIXES = (*_SHORT_PREFIXES, "The best option isThe correct option is", "Best answer:Best option:")
_PREFIXES = (*_SHORT_PREFIXES, "The best option is", "The correct option is", "Best answer:", "Best option:")


def _first_letter_after(prefixes: Sequence[str]) -> Rule:
    def rule(reply: str, options: Sequence[str], letters: str) -> Read:
        text = reply.strip()
        for prefix in prefixes:
            text = text.replace(prefix, "")
        return Read(_first(text, letters), "first letter")

    return rule


def _first(text: str, letters: str) -> str:
    return next((char for char in text if char in letters), "")


# mlvu (E3), lvbench (E4), vnbench (E6), first_character, paren, needle -----------------------------------------------


def _mlvu(reply: str, options: Sequence[str], letters: str) -> Read:
    text = reply.strip()
    if (close := text.find(")")) >= 0:
        return Read(text[close - 1 : close] if close else "", 'before ")"')
    return Read(text, "whole reply")


def _lvbench(reply: str, options: Sequence[str], letters: str) -> Read:
    text = reply.strip().split(")", 1)[0].strip()
    if "(" in text:
        text = text.split("(")[1].strip()
    return Read(text.split(" ", 1)[0][:1], "first character")


def _letter_before(mark: str) -> Rule:
    def rule(reply: str, options: Sequence[str], letters: str) -> Read:
        head = reply.split(mark, 1)[0]
        return Read(next((letter for letter in letters if letter in head), head), f'contained before "{mark}"')

    return rule


_vnbench = _letter_before(".")


def _first_character(reply: str, options: Sequence[str], letters: str) -> Read:
    return Read(reply[:1], "first character")


def _paren(reply: str, options: Sequence[str], letters: str) -> Read:
    """The official rule on the text in the first parentheses, or on the whole reply."""
    for line in reply.split("\n"):
        start = line.find("(")
        close = line.find(")", start + 1)
        if start >= 0 and close >= 0:
            return Read(_vnbench(line[start + 1 : close], options, letters).text, "in parentheses")
    return _vnbench(reply.strip(), options, letters)


# mvbench (E5) --------------------------------------------------------------------------------------------------------

_SPACED_MARKS = tuple(';/[]"{}()=+\\_-><@`,?!')
_NUMBER_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS = 32  # the original passes re.UNICODE (32) where re.sub expects a count


def _mvbench(reply: str, options: Sequence[str], letters: str) -> Read:
    text = reply.strip()
    if text[:1].upper() in tuple(letters) and text[1:2] == ".":
        rest = text[2:].lstrip()
        if rest and "\n" not in rest:
            return Read(text[0].upper(), "X. text")
    text = _without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    text = _strip_each(text, ("'", '"', ")", "(")).strip().lower()
    if match := re.search(rf"\b([{re.escape(letters)}])\b", text, re.IGNORECASE):
        return Read(match[1].upper(), "standalone letter")
    return Read(text, "text")


def _without_punctuation(text: str) -> str:
    """A mark beside a space anywhere in the text is deleted throughout, others become spaces; full stops go."""
    number_comma = _NUMBER_COMMA.search(text) is not None
    cleaned = text
    for mark in _SPACED_MARKS:
        deleted = number_comma or f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if deleted else " ")
    return _PERIOD.sub("", cleaned, count=_MAX_PERIODS)


# nextqa (E7) ---------------------------------------------------------------------------------------------------------


def _nextqa(reply: str, options: Sequence[str], letters: str) -> Read:
    text = f" {_strip_each(reply, _STRIPPED[:-1])} "
    for shape, position in (("(X)", "(X)"), ("X ", " X "), ("X.", " X ")):
        found = [letter for letter in letters if shape.replace("X", letter) in text]
        if found:
            # Several: the last one. If none stands between spaces, all positions are -1 and the first letter wins.
            return Read(max(found, key=lambda letter: text.rfind(position.replace("X", letter))), shape)
    if len(text.split()) > 5:
        lower = text.lower()
        where = {letter: lower.rfind(option.strip().lower()) for letter, option in zip(letters, options, strict=False)}
        found = [letter for letter, at in where.items() if at >= 0]
        if found:
            return Read(max(found, key=lambda letter: where[letter]), "option text")
    return Read("", "none")


# tolerant ------------------------------------------------------------------------------------------------------------

_ANSWER_IS = re.compile(
    r"(?:answer|option|choice)s?\b(?:\s+is\b)?\s?[:：]?[\s*_(\[]{0,4}([A-Z])(?![\w'’])(?!\s?(?:or|and|/|,|&)\s?[A-Z]\b)",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"[\s*_(\[\"'`]{0,8}([A-Z])(?:[\s*_)\]\"'`]{0,4}$|[*_]{0,2}(?:[):\]，。、：*]|\.(?!\w)))", re.IGNORECASE
)
_BRACKETED = re.compile(r"[(\[]\s?([A-Z])\s?[)\]]")
_ALONE = re.compile(r"(?<![\w'’])([A-Z])(?![\w'’])")
_ARTICLE = re.compile(r"\bA\s(?!(?:and|or|is|because)\b)(?=[^\W\d_])")


def _tolerant(reply: str, options: Sequence[str], letters: str) -> Read:
    """The first of these that is there: a letter that leads the reply as a label, the last "answer is X", the only
    letter in brackets, the only letter that stands alone, the only option quoted in full. Several different letters,
    and a capital A as an article ("A man ..."), give none."""
    text = reply.strip()
    if (match := _LEADING.match(text)) and (letter := match[1].upper()) in letters:
        return Read(letter, "leading label")
    stated = [match[1].upper() for match in _ANSWER_IS.finditer(text)]
    if stated and stated[-1] in letters:
        return Read(stated[-1], "stated")
    prose = _ARTICLE.sub(" ", text)
    for pattern, rule in ((_BRACKETED, "only bracketed letter"), (_ALONE, "only letter")):
        named = {match[1] for match in pattern.finditer(prose)} & set(letters)
        if len(named) == 1:
            return Read(named.pop(), rule)
        if named:
            return Read("", "several letters")
    letter = _quoted(text, options, letters)
    return Read(letter, "option text" if letter else "none")


def _quoted(text: str, options: Sequence[str], letters: str) -> str:
    """The letter of the only option that the reply equals or contains. An option inside a longer quoted option does
    not count."""
    lower = text.lower().rstrip(".")
    bare = {
        letter: _LABEL.sub("", option).strip().lower().rstrip(".")
        for letter, option in zip(letters, options, strict=False)
    }
    named = [letter for letter, option in bare.items() if option and option == lower] or [
        letter for letter, option in bare.items() if len(option) > 3 and option in lower
    ]
    named = [one for one in named if not any(bare[one] != bare[other] and bare[one] in bare[other] for other in named)]
    return named[0] if len(named) == 1 else ""


_LABEL = re.compile(r"^\s*\(?[A-Z][.):]\s*")


# The table -----------------------------------------------------------------------------------------------------------

_ALL = (
    Extractor("lmms_eval", _lmms_eval, "E1"),
    Extractor("video_mme", _first_letter_after(_FUSED_PREFIXES), "E2"),
    Extractor("video_mme_vlmek", _first_letter_after((*_FUSED_PREFIXES, "Answer:", "Option:"))),
    Extractor("longvideobench", _first_letter_after(_PREFIXES)),
    Extractor("mlvu", _mlvu, "E3"),
    Extractor("lvbench", _lvbench, "E4"),
    Extractor("mvbench", _mvbench, "E5"),
    Extractor("vnbench", _vnbench, "E6"),
    Extractor("nextqa", _nextqa, "E7", draws=True),
    Extractor("first_character", _first_character),
    Extractor("paren", _paren),
    Extractor("needle", _letter_before(")")),
    Extractor("tolerant", _tolerant),
)

EXTRACTORS: dict[str, Extractor] = {e.name: e for e in _ALL} | {e.alias: e for e in _ALL if e.alias}
"""By name, and by alias."""


def extractor(name: str) -> Extractor:
    """Raises ConfigError on an unknown name."""
    if name not in EXTRACTORS:
        raise ConfigError(
            f'There is no extractor "{name}".{suggest(name, EXTRACTORS)} Choose one of: {", ".join(EXTRACTORS)}.'
        )
    return EXTRACTORS[name]

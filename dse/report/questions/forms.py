"""The forms of questions, and which function answers which."""

from __future__ import annotations

import re

from dse.errors import UserError
from dse.report.questions.answer import Answer, Study
from dse.report.questions.choices import best_under, cheapest_within, known_task, next_trials
from dse.report.questions.comparison import compare_configs
from dse.report.questions.options import does_it_help

FORMS = (
    "best [under N % overhead] [on TASK]",
    "cheapest within .01 [on TASK]",
    "does OPTION help [with OTHER | without OTHER]",
    "is CONFIG better than CONFIG",
    "what to try next",
)
"""What may be asked; words in capitals are the user's."""

_STANDING = ("best", "best under 10 % overhead", "cheapest within .01", "what to try next")
_TASK = r"(?: on (?P<task>.+?))?"
_ASKED = r"(?:(?:what|which)(?: (?:recipe|configuration|config|one))? is )?(?:the )?"
_NOUN = r"(?: (?:recipe|configuration|config|one))?"
_BEST = re.compile(rf"{_ASKED}best{_NOUN}(?: under (?P<n>[\d.]+) ?%?(?: overhead)?)?{_TASK}$", re.IGNORECASE)
_CHEAPEST = re.compile(
    rf"{_ASKED}cheapest{_NOUN} within (?P<n>\d*\.?\d+) ?(?P<percent>%|percent)?{_TASK}$", re.IGNORECASE
)
_HELPS = re.compile(r"does (?P<what>.+?) help(?: (?P<how>with|without) (?P<other>.+))?$", re.IGNORECASE)
_BETTER = re.compile(r"is (?P<a>.+) better than (?P<b>.+)$", re.IGNORECASE)
_NEXT = re.compile(r"what (?:(?:is )?(?:to try|should (?:i|we) (?:try|run)|to run) )?next$", re.IGNORECASE)


def answer(study: Study, question: str) -> Answer:
    """Raises UserError for a question of no known form, or about what the sweep does not have."""
    text = " ".join(question.split()).rstrip("?.! ")
    if found := _BEST.match(text):
        return best_under(study, question, float(found["n"] or "inf"), known_task(study, found["task"] or ""))
    if found := _CHEAPEST.match(text):
        share = float(found["n"]) / (100 if found["percent"] else 1)
        return cheapest_within(study, question, share, known_task(study, found["task"] or ""))
    if found := _HELPS.match(text):
        without = (found["how"] or "").lower() == "without"
        return does_it_help(study, question, found["what"], found["other"] or "", without)
    if found := _BETTER.match(text):
        return compare_configs(study, question, found["a"], found["b"])
    if _NEXT.match(text):
        return next_trials(study, question)
    raise UserError(
        f"no such question: {question!r}; known forms: " + "; ".join(" ".join(form.split()) for form in FORMS)
    )


def standing_questions(study: Study) -> list[Answer]:
    """The questions that a report answers on its first page."""
    if study.configs.empty or not study.table.records:
        return []
    return [
        answer(study, question)
        for question in ("best", "best under 10 % overhead", "cheapest within .01", "what to try next")
    ]


__all__ = ["FORMS", "answer", "standing_questions"]

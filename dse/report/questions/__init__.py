"""Questions about a sweep, answered in one sentence with an interval and the trials behind it."""

from __future__ import annotations

from dse.report.questions.answer import Answer, Study
from dse.report.questions.comparison import compare_configs, compare_studies
from dse.report.questions.forms import FORMS, answer, standing_questions

__all__ = ["FORMS", "Answer", "Study", "answer", "compare_configs", "compare_studies", "standing_questions"]

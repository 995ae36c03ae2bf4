"""A language model asked what sets classes apart from those they are taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vlmdesc.cli.border import say
from vlmdesc.text import shown

if TYPE_CHECKING:
    from vlmdesc.records import Descriptors

ASKED, TIMEOUT_S = 8, 120.0  # descriptors asked for, of one class; seconds a call may take


class Asker:
    """Asks a language model for descriptors of classes against their rivals; answers are kept, as always.

    Raises: InputError for an endpoint that is none.
    """

    def __init__(self, given: Descriptors, ask: str, base_url: str, key_variable: str) -> None:
        from vlmdesc.cli.asking import opener

        self.given, self.failed = given, 0
        options = {"allow_http": False, "timeout_s": TIMEOUT_S}
        self.name, self.open_llm = opener(ask, base_url, key_variable, 1, options)

    def __call__(self, rivals: Mapping[int, Sequence[int]]) -> Mapping[int, Sequence[str]]:
        from vlmdesc.cache import Answers, cache_folder
        from vlmdesc.cli.describe import ANSWERS
        from vlmdesc.descriptors.generate import Answer, Generation, Outcome, Question, questions
        from vlmdesc.descriptors.prompts import open_prompt

        classes, found = self.given.classes, dict[int, Sequence[str]]()
        against = {classes[c].id: [classes[r].name for r in others] for c, others in rivals.items()}

        def hear(question: Question, outcome: Outcome) -> None:
            if isinstance(outcome, Answer):
                found[self.given.position[question.class_.id]] = outcome.texts
            else:
                self.failed += 1
                name = shown(question.class_.name)
                say(f'error: {shown(outcome.what)} (class "{name}", {outcome.code}); fix: the same command asks again')

        asked = [classes[c] for c in rivals]
        these = questions(open_prompt("contrastive"), asked, ASKED, self.name, rivals=against)
        Generation(self.open_llm, Answers(cache_folder() / ANSWERS), on=hear)(these)
        return found

"""What a task gives an item does not depend on those it shares a batch with."""

import pytest

import emu3
from emu3.mllm.parts import Message, Text
from emu3.pipeline import AskSettings
from emu3.web.tasks import Ask, Finished, Question
from tests.support import write_tiny_checkpoint


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny model of 256 positions."""
    return emu3.load(*write_tiny_checkpoint(tmp_path_factory.mktemp("tiny")), device="CPU")


def answers(models, *texts: str) -> list[str]:
    """What the questions are answered together, up to the end of the model's positions."""
    task = Ask(AskSettings(max_new_tokens=200).filled(models.defaults))
    questions = [Question([Message("user", (Text(text),))]) for text in texts]
    done = {i: event for i, event in task.run(models, questions) if isinstance(event, Finished)}
    return [done[i].result for i in range(len(texts))]


def test_a_long_question_does_not_cut_a_short_ones_answer(tiny):
    short, long = "a", "a red circle " * 12
    assert answers(tiny, short, long) == answers(tiny, short) + answers(tiny, long)

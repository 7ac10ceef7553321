"""What a task gives each of the items that share a batch."""

import pytest

import emu3
from emu3.mllm.parts import Message, Text
from emu3.pipeline import AskSettings, DrawSettings, Picture
from emu3.web.tasks import Ask, Draw, Finished, Question, filled_up, most_items
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


def test_the_best_of_several_grows_as_the_first_and_ends_as_the_best(tiny):
    settings = DrawSettings(best_of=3).filled(tiny.defaults)
    events = list(Draw(settings).run(tiny, [Picture("a red circle", (4, 4), seed=1)]))
    assert [event.done for _, event in events[:-1]] == [1, 2, 3, 4]
    best = tiny.draw("a red circle", height=16, width=16, seed=1, best_of=3)
    assert events[-1][1].result.tobytes() == best.tobytes()


@pytest.mark.parametrize("each", range(1, 9))
def test_candidates_count_among_what_is_made_together(each):
    for sequences in (16, 64):
        most = most_items(sequences, each)
        assert len(filled_up(range(most))) * each <= sequences < 2 * most * each

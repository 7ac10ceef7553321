"""What a person sees of a sample: exactly the labels stand in brackets."""

import numpy as np

from train.data.inspection import histogram, marked_text
from train.data.samples import conversation_sample, dialogue_sample, t2i_sample

CODES = np.arange(12, dtype=np.int32).reshape(3, 4)
TURNS = [("How many?", "two"), ("什么颜色", "红色")]


def inside(text):
    """The bracketed parts."""
    return [part.split("⟧")[0] for part in text.split("⟦")[1:]]


def test_the_codes_of_a_picture_are_marked_row_by_row(builder):
    text = marked_text(builder, t2i_sample(builder, "a star", CODES))
    assert "a star" in text.split("⟦")[0]
    assert inside(text) == ["[4 codes]"]
    assert "(3 times)" in text


def test_structure_stands_inside_the_marks_when_it_is_supervised(builder):
    text = marked_text(builder, t2i_sample(builder, "a star", CODES, structure=True))
    eol, eos = (
        builder.tokenizer.decode([i]) for i in (builder.vocabulary.eol, builder.vocabulary.eos)
    )
    assert inside(text)[0] == f"[4 codes]{eol}"
    assert inside(text)[-1].endswith(eos) and text.endswith("⟧")


def test_responses_are_marked_and_questions_are_not(builder):
    eos = builder.tokenizer.decode([builder.vocabulary.eos])
    for make in (conversation_sample, dialogue_sample):
        text = marked_text(builder, make(builder, CODES, TURNS))
        assert inside(text) == [f"two{eos}", f"红色{eos}"]
        assert "什么颜色" in text


def test_each_independent_question_begins_a_line(builder):
    lines = marked_text(builder, conversation_sample(builder, CODES, TURNS)).splitlines()
    assert [TURNS[0][0] in lines[1], TURNS[1][0] in lines[2]] == [True, True]


def test_a_histogram_counts_every_value_once():
    values = [3, 3, 4, 50, 107]
    lines = histogram("tokens", values).splitlines()
    assert lines[0] == "tokens: 3 to 107, median 4"
    assert sum(int(line.split()[-1]) for line in lines[1:]) == len(values)
    assert lines[1].split()[0] == "3" and lines[-1].split()[2] == "107"


def test_a_histogram_of_one_value_is_one_bar():
    assert len(histogram("tokens", [5, 5]).splitlines()) == 2

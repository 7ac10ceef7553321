"""Clips of any length in pieces, edits and conversations: over the tiny checkpoint."""

import numpy as np
import pytest

from emu3 import runtime
from emu3.errors import InputError
from emu3.films import ClipOptions, Film, TextToVideo
from emu3.loading import load
from emu3.mllm.defaults import CheckpointDefaults
from emu3.mllm.generation import CandidateRow, Done, FrameDone, RowDone, TextPiece, choosing
from emu3.mllm.parts import Coded, Message, Text
from emu3.pipeline import AskSettings, DrawSettings
from emu3.talks import Edit, Edits, Talk
from tests.support import write_tiny_checkpoint

GIVEN = np.arange(12, dtype=np.int32).reshape(3, 2, 2)


@pytest.fixture(scope="module")
def emu3(tmp_path_factory):
    """The tiny checkpoint, loaded."""
    folders = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    yield load(*folders, device="CPU")
    runtime.setup(device="CPU")


@pytest.fixture(scope="module")
def filming(emu3) -> TextToVideo:
    return TextToVideo(emu3.model, emu3.prompts)


@pytest.fixture(scope="module")
def settings(emu3) -> DrawSettings:
    return DrawSettings().filled(emu3.defaults)


def spans(film: Film) -> list[tuple[int, int, int]]:
    return [(piece.first, piece.end, piece.until) for piece in film.pieces()]


def test_pieces_overlap_by_their_context_and_the_last_ends_early():
    assert spans(Film("a", (5, 2, 2), 8.0)) == [(0, 5, 5)]
    assert spans(Film("a", (9, 2, 2), 8.0, piece=4, context=1)) == [
        (0, 4, 4),
        (3, 7, 7),
        (6, 10, 9),
    ]
    given = Film("a", (8, 2, 2), 8.0, given=GIVEN, piece=4, context=2)
    assert spans(given) == [(1, 5, 5), (3, 7, 7), (5, 9, 8)]


def test_frames_become_latent_frames_and_what_is_odd_is_said():
    stated = CheckpointDefaults(video_frames=8, video_fps=6.0)
    film = ClipOptions().film("a", (2, 2), 0, 4, stated)
    assert (film.size, film.fps, film.piece, film.frames) == ((2, 2, 2), 6.0, 2, 8)
    asked = ClipOptions(frames=10, fps=5.0, piece=16, context=6)
    film = asked.film("a", (2, 2), 0, 4, stated, GIVEN, 3.0)
    assert (film.size, film.fps, film.piece, film.context) == ((6, 2, 2), 5.0, 4, 2)
    said = asked.notices(4)
    assert "--frames 10: made as 12" in said[0] and "--context 6" in said[1]


@pytest.mark.parametrize(
    ("options", "message"), [({"context": 4}, "--piece"), ({"piece": 4, "context": 4}, "1..3")]
)
def test_contexts_that_fit_no_piece_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ClipOptions(**options)


def test_a_piece_of_one_latent_frame_is_refused():
    with pytest.raises(InputError, match="from 8"):
        ClipOptions(frames=8, piece=4).film("a", (2, 2), 0, 4, CheckpointDefaults())


def test_a_film_in_pieces_makes_every_frame_once_and_again(filming, settings):
    film = Film("go", (6, 2, 2), 8.0, seed=3, given=GIVEN[:1], piece=3, context=1)
    events = list(filming.run(film, settings, jit=False))
    frames = [event.frame for event in events if isinstance(event, FrameDone)]
    rows = [(e.frame, e.row) for e in events if isinstance(e, RowDone)]
    assert frames == [1, 2, 3, 4, 5]
    assert rows == [(t, r) for t in frames for r in range(2)]
    assert sum(isinstance(event, Done) for event in events) == 3
    codes = filming.codes(film, settings, jit=False)
    assert np.array_equal(codes[0], GIVEN[0])
    assert np.array_equal(codes[1:], [e.codes for e in events if isinstance(e, FrameDone)])


def test_the_best_of_several_pieces_goes_on(filming, settings, monkeypatch):
    monkeypatch.setattr(choosing, "choose", lambda scores, each: np.array([each - 1]))
    film = Film("go", (5, 2, 2), 8.0, seed=3, given=GIVEN[:1], piece=3, context=1)
    several = DrawSettings(**vars(settings) | {"best_of": 2})
    events = list(filming.run(film, several, jit=False))

    def rows(kind: type) -> dict[tuple[int, int], list[int]]:
        return {(e.frame, e.row): e.codes.tolist() for e in events if isinstance(e, kind)}

    first, last = rows(CandidateRow), rows(RowDone)
    assert list(first) == list(last) == [(t, r) for t in range(1, 5) for r in range(2)]
    assert first != last
    codes = filming.codes(film, several, jit=False)
    assert codes[1:].reshape(-1, 2).tolist() == list(last.values())


@pytest.mark.parametrize("there", [2, 3, 4])
def test_a_film_goes_on_after_any_frame_as_it_would_have(filming, settings, there):
    film = Film("go", (5, 2, 2), 8.0, seed=3, given=GIVEN[:1], piece=3, context=1)
    whole = filming.codes(film, settings, jit=False)
    events = filming.run(film, settings, jit=False, made=whole[:there])
    rest = [event.codes for event in events if isinstance(event, FrameDone)]
    assert np.array_equal(rest, whole[there:])


def test_the_first_frames_and_the_words_both_matter(filming, settings):
    plain = DrawSettings(**vars(settings) | {"temperature": 0.0})
    film = Film("go", (3, 2, 2), 8.0, given=GIVEN[:1])
    others = [
        Film("go", (3, 2, 2), 8.0, given=GIVEN[1:2]),
        Film("stop!", (3, 2, 2), 8.0, given=GIVEN[:1]),
    ]
    ids = [
        filming.request(f, next(f.pieces()), f.given, plain).ids.tolist() for f in (film, *others)
    ]
    assert len({str(row) for row in ids}) == 3


def test_more_frames_than_positions_are_refused_with_the_piece_that_fits(filming, settings):
    def film(**options: int) -> Film:
        return ClipOptions(frames=240, **options).film("go", (2, 2), 0, 4, CheckpointDefaults())

    with pytest.raises(InputError, match=r"up to \d+ frames .*--piece") as caught:
        filming.check(film(), settings)
    most = int(str(caught.value).split("up to ")[1].split()[0])
    filming.check(film(piece=most), settings)
    with pytest.raises(InputError, match="positions"):
        filming.check(film(piece=most + 1), settings)


@pytest.mark.parametrize("side", [11, 30])  # of which one latent frame fits, or none
def test_frames_too_large_for_a_piece_are_not_to_be_made_in_pieces(filming, settings, side):
    with pytest.raises(InputError, match=r"allowed: smaller frames; change --image-area") as caught:
        filming.check(Film("go", (4, side, side), 8.0, factor=4), settings)
    assert "--piece" not in str(caught.value)


def test_an_edit_is_a_conversations_picture(emu3, settings):
    edits = Edits(emu3.model, emu3.prompts)
    asked = [Edit("blue", [GIVEN[0]], (2, 2), 5), Edit("red", [GIVEN[1], GIVEN[2]], (2, 3), 6)]
    both = edits.request(asked, settings, jit=False)
    turn = emu3.prompts.conversation([Message("user", [Coded(GIVEN[0]), Text("blue")])])
    assert both.rows.prompts[0].tolist()[: len(turn)] == turn
    rows = [event for event in edits.run(both) if isinstance(event, RowDone)]
    alone = [
        e
        for e in edits.run(edits.request(asked[1:], settings, jit=False))
        if isinstance(e, RowDone)
    ]
    second = [row.codes for row in rows if row.sequence == 1]
    assert np.array_equal(second, [row.codes for row in alone])
    assert [row.codes.shape for row in alone] == [(3,), (3,)]


@pytest.fixture
def talk(emu3, settings) -> Talk:
    asking = AskSettings(max_new_tokens=5).filled(emu3.defaults)
    return Talk(emu3.model, emu3.prompts, asking, settings, (2, 2), jit=False)


def test_turns_follow_on_one_another(talk):
    first = list(talk.say([Coded(GIVEN[0]), Text("what")]))
    ids = [i for event in first if isinstance(event, TextPiece) for i in event.ids]
    assert isinstance(first[-1], Done)
    assert [message.role for message in talk.messages] == ["user", "assistant"]
    assert talk.messages[1].parts[0].text == talk.text(ids)
    list(talk.say([Text("why")]))
    assert len(talk.messages) == 4


def test_an_answer_cut_short_leaves_the_conversation_as_it_was(talk):
    next(talk.say([Text("what")]))
    assert not talk.messages


def test_a_model_that_says_boi_goes_on_with_a_picture(talk, monkeypatch):
    words = talk.prompts.vocabulary
    whole = talk.model.request

    def saying_boi(prompts, **options):
        if "image_size" not in options:
            others = [i for i in range(talk.model.config.vocab_size) if i != words.boi]
            options["suppress_tokens"] = others
        return whole(prompts, **options)

    monkeypatch.setattr(talk.model, "request", saying_boi, raising=False)
    events = list(talk.say([Coded(GIVEN[0][:, :1]), Text("draw")]))
    assert [type(event) for event in events if isinstance(event, TextPiece)] == []
    (made,) = (event.codes for event in events if isinstance(event, FrameDone))
    assert made.shape == (2, 1)
    assert np.array_equal(talk.messages[1].parts[0].codes, made)

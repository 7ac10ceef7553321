"""Logits processors: the reference's two run on the fast path, any other is called."""

import numpy as np
import pytest
from mindspore import Tensor

from emu3.errors import InputError
from emu3.mllm.grammar import PrefixConstraint
from tests.mllm.generation.conftest import MARKERS, prompt

POSITIVE, NEGATIVE = prompt(9, seed=1), prompt(6, seed=2)
SAMPLED = {"do_sample": True, "top_k": 20, "seed": 5, "jit": False}


class UnbatchedClassifierFreeGuidanceLogitsProcessor:
    """The attributes that mindone's and transformers' classes of this name have."""

    def __init__(self, guidance_scale, model, unconditional_ids=None, mask=None):
        self.guidance_scale = guidance_scale
        self.model = model
        self.unconditional_context = {"input_ids": unconditional_ids, "attention_mask": mask}


class PrefixConstrainedLogitsProcessor:
    """The same."""

    def __init__(self, prefix_allowed_tokens_fn, num_beams):
        self._prefix_allowed_tokens_fn = prefix_allowed_tokens_fn
        self._num_beams = num_beams


@pytest.fixture
def processors(model, vocabulary) -> list:
    """What the seed document's first example hands to generate()."""
    constraint = PrefixConstraint(vocabulary, np.array([2]), np.array([3]))
    return [
        UnbatchedClassifierFreeGuidanceLogitsProcessor(3.0, model, Tensor(NEGATIVE)),
        PrefixConstrainedLogitsProcessor(constraint, num_beams=1),
    ]


@pytest.fixture(scope="module")
def picture(model) -> np.ndarray:
    """The same picture by overrides: ids (1, 9 + 11)."""
    guidance = {"guidance_scale": 3.0, "negative_prompt_ids": NEGATIVE}
    return model.generate(Tensor(POSITIVE), image_size=[[2, 3]], **guidance, **SAMPLED).asnumpy()


def test_the_references_processors_give_what_the_overrides_give(model, processors, picture):
    made = model.generate(Tensor(POSITIVE), logits_processor=processors, **SAMPLED)
    assert np.array_equal(made.asnumpy(), picture)


def test_the_references_processors_need_no_host(model, processors):
    request = model.request(POSITIVE, logits_processor=processors)
    assert not request.needs_host


def test_guidance_without_unconditional_ids_starts_from_the_last_token(model):
    processor = UnbatchedClassifierFreeGuidanceLogitsProcessor(3.0, model)
    options = {"max_new_tokens": 4, "eos_token_id": None, **SAMPLED}
    made = model.generate(Tensor(POSITIVE), logits_processor=[processor], **options)
    last = {"guidance_scale": 3.0, "negative_prompt_ids": POSITIVE[:, -1:]}
    assert np.array_equal(
        made.asnumpy(), model.generate(Tensor(POSITIVE), **last, **options).asnumpy()
    )


def test_a_warper_with_a_setting_becomes_that_setting(model):
    class TopKLogitsWarper:
        top_k = 20

    request = model.request(POSITIVE, logits_processor=[TopKLogitsWarper()])
    assert request.settings.top_k == 20
    assert not request.needs_host


def test_a_foreign_processor_that_changes_nothing_changes_nothing(model, processors, picture):
    def idle(ids, scores):
        return scores

    made = model.generate(Tensor(POSITIVE), logits_processor=[*processors, idle], **SAMPLED)
    assert np.array_equal(made.asnumpy(), picture)


def test_a_foreign_processor_decides(model):
    calls = []

    def only_forty(ids, scores):
        calls.append(ids.shape)
        bonus = np.zeros(scores.shape, np.float32)
        bonus[:, 40] = 1e4
        return scores + Tensor(bonus)

    made = model.generate(
        Tensor(POSITIVE),
        logits_processor=[only_forty],
        max_new_tokens=3,
        eos_token_id=None,
        jit=False,
    ).asnumpy()
    assert made[0, 9:].tolist() == [40, 40, 40]
    assert calls == [(1, 9), (1, 10), (1, 11)]


def test_a_foreign_constraint_is_called_with_row_and_ids(model):
    seen = []

    def allowed(row, ids):
        seen.append((row, len(ids)))
        return [50]

    class Constrained:
        def __call__(self, ids, scores):
            mask = np.full(scores.shape, -np.inf, np.float32)
            for row, sequence in enumerate(ids.asnumpy()):
                mask[row, allowed(row, sequence)] = 0
            return scores + Tensor(mask)

    options = {"max_new_tokens": 2, "eos_token_id": None, "jit": False}
    made = model.generate(Tensor(POSITIVE), logits_processor=[Constrained()], **options)
    assert made.asnumpy()[0, 9:].tolist() == [50, 50]
    assert seen == [(0, 9), (0, 10)]


def test_scores_of_another_shape_are_refused(model):
    with pytest.raises(InputError, match="returned shape"):
        model.generate(Tensor(POSITIVE), logits_processor=[lambda ids, scores: scores[:, :5]])


def test_a_grid_beside_a_foreign_processor_stays_exact(model, vocabulary):
    def prefers_text(ids, scores):
        bonus = np.zeros(scores.shape, np.float32)
        bonus[:, :31] = 50
        return scores + Tensor(bonus)

    options = {"image_size": [[2, 2]], "logits_processor": [prefers_text], **SAMPLED}
    made = model.generate(Tensor(POSITIVE), **options).asnumpy()[0, 9:]
    assert vocabulary.is_visual(made[[0, 1, 3, 4]]).all()
    assert made[[2, 5]].tolist() == [MARKERS["eol"]] * 2

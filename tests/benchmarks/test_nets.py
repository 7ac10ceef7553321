"""The named nets have the sizes their comparisons speak of."""

from emu3.benchmarks.nets import NETS, NetOptions, random_model, random_prompts
from emu3.cli.options import Device
from emu3.mllm.vocabulary import Vocabulary


def parameters(name: str) -> int:
    """Weights of a named net, by its sizes."""
    n = NETS[name]
    groups = n.kv_heads * n.hidden // n.heads
    layer = 2 * n.hidden * (n.hidden + groups) + 3 * n.hidden * n.inner
    return n.layers * layer + 2 * n.vocabulary * n.hidden


def test_the_300m_net_has_at_least_300_million_parameters():
    assert parameters("300m") >= 300e6


def test_heads_are_64_wide_everywhere():
    assert {net.hidden // net.heads for net in NETS.values()} == {64}


def test_the_wide_and_the_narrow_vocabulary_differ_in_nothing_else():
    wide, narrow = vars(NETS["wide-vocabulary"]), vars(NETS["narrow-vocabulary"])
    assert {name for name in wide if wide[name] != narrow[name]} == {"vocabulary"}
    assert (wide["vocabulary"], narrow["vocabulary"], wide["visual"]) == (184622, 33000, 32768)


def test_a_random_model_has_as_many_visual_ids_as_asked_and_prompts_hold_none():
    net = type(NETS["small"])(32, 1, 4, 2, 48, 200, 150)
    vocabulary = Vocabulary.from_config(random_model(net, 64, Device()).config)
    assert vocabulary.visual_count == 150
    ids = random_prompts(net, 3, 20)
    assert not vocabulary.is_visual(ids).any()
    assert (ids[:, -1] == vocabulary.img).all()


def test_sizes_replace_those_of_the_net_that_is_named():
    sizes = NetOptions("4m", layers=7).sizes
    assert vars(sizes) == vars(NETS["4m"]) | {"layers": 7}

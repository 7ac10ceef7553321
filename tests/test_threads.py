"""Two threads on one process' models: the second waits, and both are right."""

import threading
import time

import numpy as np
from mindspore import Tensor

from emu3.mllm import Emu3ForCausalLM
from emu3.runtime import Turns
from emu3.tokenizer import Emu3VisionVQModel
from tests.support import randomised, tiny_config, tiny_vision_config


def together(work, count: int) -> list:
    """What `work(k)` gives for each k, run in a thread each at a time."""
    results = [None] * count

    def run(k: int) -> None:
        results[k] = work(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


def test_two_threads_generate_what_one_would():
    config = tiny_config()
    model = randomised(Emu3ForCausalLM(config), 0).set_train(False)
    ids = np.array([[config.bos_token_id, 5, config.boi_token_id, config.img_token_id]], np.int32)

    def picture(seed: int) -> np.ndarray:
        options = {"image_size": [[3, 3]], "do_sample": True, "seed": seed}
        return model.generate(Tensor(ids), **options).asnumpy()

    alone = [picture(seed) for seed in range(2)]
    assert all(map(np.array_equal, together(picture, 2), alone))


def test_two_threads_encode_what_one_would():
    model = randomised(Emu3VisionVQModel(tiny_vision_config()), 1).set_train(False)
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 1, 3, 32, 32)).astype(np.float32)

    def codes(k: int) -> np.ndarray:
        return model.encode(Tensor(pixels[k])).asnumpy()

    alone = [codes(k) for k in range(2)]
    assert all(map(np.array_equal, together(codes, 2), alone))


def waiting_at(turns: Turns, order: list[str]) -> threading.Thread:
    """A thread that stands at turns held by this one, and tells when it got in."""

    def wait() -> None:
        with turns:
            order.append("waits")

    thread = threading.Thread(target=wait)
    thread.start()
    while not turns._next.locked():
        time.sleep(0.001)
    return thread


def test_a_thread_that_comes_back_at_once_lets_the_one_that_waits_go_first():
    turns, order = Turns(), []
    with turns:
        other = waiting_at(turns, order)
    with turns:
        order.append("comes back")
    other.join(10)
    assert order == ["waits", "comes back"]


def test_a_thread_takes_its_own_turn_again_while_another_waits():
    turns, order = Turns(), []
    with turns:
        other = waiting_at(turns, order)
        with turns:
            order.append("again")
    other.join(10)
    assert order == ["again", "waits"]


def test_no_two_threads_are_inside_at_once():
    turns, inside, most = Turns(), [], []

    def come_and_go(k: int) -> int:
        for _ in range(200):
            with turns:
                inside.append(k)
                most.append(len(inside))
                time.sleep(0)
                inside.remove(k)
        return k

    assert together(come_and_go, 3) == [0, 1, 2] and max(most) == 1

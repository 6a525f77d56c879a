"""``record()`` in several threads: each explains its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor

from tests.core.shares import paper, share
from tests.tensors import leaf_of

pytestmark = pytest.mark.usefixtures("forget_recordings")


def in_thread(f: Callable[[], None]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            f()
        except BaseException as error:
            failed.append(error)

    t = threading.Thread(target=run)
    t.start()
    t.join()
    if failed:
        raise failed[0]


def test_two_threads_record_the_same_numbers_and_explain_their_own() -> None:
    # Sequence numbers count per thread, so both forwards have the very same ones.
    barrier = threading.Barrier(2)
    found: dict[float, Tensor] = {}
    inputs: dict[float, Tensor] = {}
    failed: list[BaseException] = []

    def work(constant: float) -> None:
        try:
            x = inputs[constant] = leaf_of(4, seed=int(constant))
            barrier.wait()
            with lrp.record():
                y = x * 1.0 + constant
            barrier.wait()
            found[constant] = paper(y, x)
        except BaseException as error:
            failed.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(c,)) for c in (2.0, 30.0)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed
    for constant, r in found.items():
        torch.testing.assert_close(r, share(inputs[constant], constant))


def test_a_later_thread_that_gets_the_same_identifier_does_not_read_an_earlier_ones_record() -> None:
    x = leaf_of(4)

    def earlier() -> None:
        with lrp.record():
            _ = x * 1.0 + 2.0

    def later() -> None:
        with lrp.record():
            y = x * 1.0 + 30.0
        torch.testing.assert_close(paper(y, x), share(x, 30.0))

    for f in (earlier, later, earlier, later):
        in_thread(f)


def test_a_graph_recorded_in_a_worker_is_lost_outside_of_it_and_says_so() -> None:
    x = leaf_of(4)
    made: list[Tensor] = []

    def work() -> None:
        with lrp.record() as kept:
            made.append(-(x * 1.0 + 2.0))
        made.append(kept)  # held, and still no other thread reads it

    in_thread(work)
    with pytest.raises(lrp.Unrecoverable, match="in this thread"):
        paper(made[0], x)


def test_a_worker_without_record_is_not_served_by_another_threads_record() -> None:
    x = leaf_of(4)
    made: list[Tensor] = []

    def recorded() -> None:
        with lrp.record():
            _ = x * 1.0 + 2.0

    def unrecorded() -> None:
        made.append(-(x * 1.0 + 30.0))

    in_thread(recorded)
    in_thread(unrecorded)
    with pytest.raises(lrp.Unrecoverable):
        paper(made[0], x)


def test_recording_and_explaining_in_many_threads_at_once() -> None:
    failed: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for i in range(20):
                x = leaf_of(4, seed=k)
                constant = float(1 + k + 10 * i)
                with lrp.record():
                    y = x * 1.0 + constant
                torch.testing.assert_close(paper(y, x), share(x, constant))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed[0]

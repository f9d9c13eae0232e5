import asyncio
import threading

import pytest

from retrank.serving.batching import BusyError, DeadlineError, MicroBatcher


def batcher(work, **more):
    return MicroBatcher(work, **{"largest": 4, "capacity": 8, "name": "test", "seconds": 10.0, **more})


class Gate:
    """Work that waits until it may go on, and remembers its batches."""

    def __init__(self):
        self.batches, self.may_go_on = [], threading.Event()

    def __call__(self, batch):
        self.batches.append(list(batch))
        assert self.may_go_on.wait(10)
        return [2 * item for item in batch]


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_a_lone_item_does_not_wait_for_others():
    async def main():
        doubled = batcher(lambda batch: [2 * item for item in batch])
        assert await doubled.submit(21) == 42
        await doubled.drain()

    run(main())


def test_what_arrives_meanwhile_is_worked_on_together_in_order_and_in_bounded_batches():
    async def main():
        gate = Gate()
        doubled = batcher(gate)
        first = doubled.submit(0)
        await asyncio.sleep(0.05)
        rest = [doubled.submit(number) for number in range(1, 8)]
        gate.may_go_on.set()
        assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8, 10, 12, 14]
        assert gate.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
        await doubled.drain()

    run(main())


def test_a_full_queue_refuses_and_goes_on_afterwards():
    async def main():
        gate = Gate()
        doubled = batcher(gate)
        futures = [doubled.submit(0)]
        await asyncio.sleep(0.05)
        futures += [doubled.submit(number) for number in range(8)]
        with pytest.raises(BusyError):
            doubled.submit(9)
        gate.may_go_on.set()
        await asyncio.gather(*futures)
        assert await doubled.submit(5) == 10

    run(main())


def test_what_was_given_up_or_waited_too_long_is_not_worked_on():
    async def main():
        gate = Gate()
        doubled = batcher(gate)
        first = doubled.submit(0)
        await asyncio.sleep(0.05)
        given_up, late, kept = doubled.submit(1), doubled.submit(2, seconds=0.01), doubled.submit(3)
        given_up.cancel()
        await asyncio.sleep(0.05)
        gate.may_go_on.set()
        assert await kept == 6
        with pytest.raises(DeadlineError):
            await late
        assert await first == 0
        assert gate.batches == [[0], [3]]

    run(main())


def test_an_error_is_of_its_item_alone_and_an_error_of_all_work_is_of_the_batch():
    def work(batch):
        if 13 in batch:
            raise OSError("all of it")
        return [ValueError(item) if item % 2 else item for item in batch]

    async def main():
        made = batcher(work)
        found = await asyncio.gather(*map(made.submit, range(4)), return_exceptions=True)
        assert [str(one) for one in found] == ["0", "1", "2", "3"]
        assert [isinstance(one, ValueError) for one in found] == [False, True, False, True]
        found = await asyncio.gather(made.submit(13), made.submit(2), return_exceptions=True)
        assert all(isinstance(one, OSError) for one in found)
        assert await made.submit(2) == 2
        await made.drain()

    run(main())


def test_draining_waits_for_what_waits():
    async def main():
        gate = Gate()
        doubled = batcher(gate)
        futures = [doubled.submit(number) for number in range(6)]
        asyncio.get_running_loop().call_later(0.05, gate.may_go_on.set)
        await doubled.drain()
        assert all(future.done() for future in futures)

    run(main())

"""Whether the event loop goes on while something else runs."""

import asyncio
import gc
import time

BEAT = 0.01
ROUNDS = 5
"""Two hundred queries may take less than ten beats, of which one missed by a busy machine would say too much."""


class Heartbeat:
    """Beats every 10 ms on the event loop while something else runs, and says which share of the beats was missed.

    A beat that comes in the 10 ms after its time is in time.
    """

    async def __aenter__(self):
        # What the test session has loaded is no concern of the collector's here: a pass over it takes several beats.
        gc.collect()
        gc.freeze()
        self._beaten, self._start = set(), time.perf_counter()
        self._task = asyncio.create_task(self._beat())
        return self

    async def _beat(self):
        while True:
            due = int((time.perf_counter() - self._start) / BEAT) + 1
            await asyncio.sleep(self._start + due * BEAT - time.perf_counter())
            self._beaten.add(int((time.perf_counter() - self._start) / BEAT))

    async def __aexit__(self, *exception):
        due = int((time.perf_counter() - self._start) / BEAT)
        self._task.cancel()
        gc.unfreeze()
        self.missed = 1 - len(self._beaten & set(range(1, due + 1))) / due


async def least_missed(work, attempts=3):
    """The share of beats missed while some work is done; what else the machine does only adds to it, so the least."""
    missed = []
    while len(missed) < attempts and min(missed, default=1.0) > 0.1:
        async with Heartbeat() as heart:
            await work()
        missed.append(heart.missed)
    return min(missed)

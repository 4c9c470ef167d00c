"""What starts a stream's DAG: messages that wait in its topic, seen from the triggerer with the client that reads them.

Kafka's provider has such a trigger, on another client, which would be a second one for one broker: ADR 0016.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

#: Seconds between two looks at the topic, and after which the same messages are told of again: a run may have failed.
LOOK_EVERY, AGAIN_AFTER = 5.0, 300.0


class MessagesWait(BaseEventTrigger):  # type: ignore[misc]
    """Fires when messages wait that nobody takes in: no worker is at work on the topic, and the stream is not held."""

    def __init__(self, dataset: str) -> None:
        super().__init__()
        self.dataset = dataset

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes the same trigger in the triggerer."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"dataset": self.dataset}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the topic for ever."""
        from tidegate.errors import TidegateError
        from tidegate.observe import logs

        log = logs.get(__name__)
        told: tuple[dict[int, int], float] = ({}, 0.0)
        trouble = ""
        while True:
            try:
                ends = await asyncio.to_thread(self._waiting)
                trouble = ""
            except TidegateError as error:
                ends = {}
                if (said := str(error)) != trouble:
                    log.warning("topic cannot be looked at", dataset=self.dataset, reason=said)
                    trouble = said
            if ends and (ends != told[0] or time.monotonic() - told[1] > AGAIN_AFTER):
                told = (ends, time.monotonic())
                yield TriggerEvent({"dataset": self.dataset, "ends": {str(n): end for n, end in ends.items()}})
            await asyncio.sleep(LOOK_EVERY)

    def _waiting(self) -> dict[int, int]:
        """Return where the topic's partitions end, if anything in them waits for a run; nothing otherwise."""
        from tidegate.settings import load_settings
        from tidegate.stream.state import state_of
        from tidegate.stream.worker import stream_of

        # Read each time: `tidegate up --with kafka` may come long after the triggerer was started.
        settings = load_settings()
        if settings.kafka_url is None:
            return {}
        state = state_of(settings, stream_of(settings, self.dataset), ages=False)
        return dict(state.ends) if state.lag and not state.workers and state.hold is None else {}

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
#: Seconds between two runs that judge and tell of what workers take in meanwhile.
CHECK_EVERY = 60.0


class MessagesWait(BaseEventTrigger):  # type: ignore[misc]
    """Fires when there is work for a run.

    Messages wait that nobody takes in: no worker is at work on the topic, and the stream is not held. Or workers have
    taken some in that no run has judged, reconciled and told of: once a minute, while they come.
    """

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
        told, told_at, trouble = dict[str, Any](), float("-inf"), ""
        while True:
            try:
                found, trouble = await asyncio.to_thread(self._due), ""
            except TidegateError as error:
                found = {}
                if (said := str(error)) != trouble:
                    log.warning("topic cannot be looked at", dataset=self.dataset, reason=said)
                    trouble = said
            passed = time.monotonic() - told_at
            anew = found != told if found.get("why") == "waiting" else passed > CHECK_EVERY
            if found and (anew or passed > AGAIN_AFTER):
                told, told_at = found, time.monotonic()
                yield TriggerEvent({"dataset": self.dataset, **found})
            await asyncio.sleep(LOOK_EVERY)

    def _due(self) -> dict[str, Any]:
        """Return why a run is due, with the ends of the topic's partitions; nothing where none is."""
        from tidegate.settings import load_settings
        from tidegate.stream.state import state_of
        from tidegate.stream.worker import stream_of

        # Read each time: `tidegate up --with kafka` may come long after the triggerer was started.
        settings = load_settings()
        if settings.kafka_url is None:
            return {}
        state = state_of(settings, stream_of(settings, self.dataset), ages=False)
        ends = {str(number): end for number, end in state.ends.items()}
        if state.hold is not None:
            return {}
        if not state.workers:
            return {"why": "waiting", "ends": ends} if state.lag or state.unchecked else {}
        return {"why": "taken in", "ends": ends} if state.unchecked else {}

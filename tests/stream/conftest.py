"""What every test of streams may ask for."""

from __future__ import annotations

from tests.kafka_servers import kafka_programs as kafka_programs
from tests.kafka_servers import own_kafka as own_kafka
from tests.kafka_servers import shared_kafka as shared_kafka
from tests.kafka_servers import topic as topic
from tests.stream.parcels import depot as depot

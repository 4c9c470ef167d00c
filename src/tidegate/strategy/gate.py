"""The names of a delivery's fifteen gates, as the team document has them; what each one asks is not written here."""

from __future__ import annotations

from enum import StrEnum


class Gate(StrEnum):
    """A gate of the delivery; the value is the name that people read."""

    PLANNING = "Planning Complete"
    ENGINEERING = "Engineering Complete"
    SCHEMA = "Schema Validation Gate"
    MIGRATION = "Migration Reversibility Gate"
    QUERY = "Query Performance Gate"
    PGTAP = "pgTAP Test Gate"
    QA = "QA Pass"
    RELEASE = "Release Ready"
    DEPLOYMENT = "Deployment Approved"
    EVIDENCE = "Evidence Complete"
    LOAD = "Load Test Gate"
    FAILOVER = "Failover Gate"
    CI = "CI Validation Gate"
    SECRETS = "No Secrets Gate"
    COMPLIANCE = "Data Compliance Gate"

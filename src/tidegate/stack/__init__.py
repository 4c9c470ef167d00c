"""The servers that a laptop needs, started and stopped as one: PostgreSQL, Airflow, Sail.

Nothing here knows what flows through them: the rest of the platform only sees addresses (`settings.py`).
"""

"""The whole year: through Airflow, and by the same commands without it."""

"""What all DAG files share: policy, schedules, the steps of a batch, manuals, alerts.

Airflow reads a DAG's file again before each of its tasks, so nothing here imports more than Airflow's SDK and
the contracts at its top.
"""

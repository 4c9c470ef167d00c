"""What all DAG files share: the operating policy, the steps of a batch, the assets, the alerts.

DAG files are read again before every task, so nothing here imports more than Airflow's SDK at its top.
"""

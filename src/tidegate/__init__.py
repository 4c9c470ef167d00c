"""tidegate: a data platform on Airflow in which every wave of data passes a gate."""

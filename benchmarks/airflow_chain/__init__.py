"""What Airflow costs a task."""

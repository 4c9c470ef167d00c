"""`tidegate run`: the demo year through the whole platform, by Airflow; the steps are the library's."""

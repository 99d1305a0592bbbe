"""Scheduled retraining: an Airflow DAG for each configuration that has a schedule, and a local Airflow to watch it."""

"""Sail against JVM Spark."""

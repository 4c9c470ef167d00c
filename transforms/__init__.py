"""Spark transforms: one module an output; each is a pure function of DataFrames and knows no file."""

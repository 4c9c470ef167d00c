"""Data contracts: read them, check them, compare them, derive from them all that a dataset needs."""

from tidegate.contracts.model import Column, Contract, Rule, Source
from tidegate.contracts.read import load, load_all, load_file

__all__ = ["Column", "Contract", "Rule", "Source", "load", "load_all", "load_file"]

"""Strategy documents: read, typed with lines, checked, and drafted; whoever judges by them takes targets from here."""

from tidegate.strategy.model import Statement, Strategy, Target
from tidegate.strategy.read import look, read

__all__ = ["Statement", "Strategy", "Target", "look", "read"]

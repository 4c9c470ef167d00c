"""The commands of `tidegate`, one noun a module, each with a function `register(app)` that adds them.

Modules here import only typer and the standard library at their top: a command pays for its own imports alone.
"""

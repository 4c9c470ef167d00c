"""The commands of `tidegate`, one noun a module, each with a function `register(app)` that adds them.

Modules here import only typer and the standard library at their top: each command pays for its own imports.
"""

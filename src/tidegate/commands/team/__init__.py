"""The commands of `team`, one noun a module, as `tidegate.commands` has those of `tidegate`."""

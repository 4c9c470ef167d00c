"""Evidence + target → verdict; and the ledger, in which everything that was decided can be read."""

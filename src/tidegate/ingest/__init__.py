"""From a source to the staged batch: deliver, check, land, quarantine, stage."""

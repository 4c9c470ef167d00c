"""From a topic's messages to published rows: feed → sieve → write, a micro-batch at a time; the worker does it over and over."""

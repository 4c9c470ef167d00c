"""Side-by-side measurements: ratios within one run, committed with the machine they were taken on."""

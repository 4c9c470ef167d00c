"""Reports of a delivery, as slides, on paper and as a page: figures that a program has measured, each with its file."""

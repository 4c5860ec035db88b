"""Running a model on photos of any size: precision, memory, tiles, batches of files."""

"""What is made once for all cells of a data set: TFX's artifacts, the held-out rows, the files for peers."""

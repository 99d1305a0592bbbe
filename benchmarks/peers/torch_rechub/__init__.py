"""YouTubeDNN of torch-rechub, in an environment with PyTorch."""

"""DSSM, YouTubeDNN and MIND of torch-rechub, in an environment with PyTorch."""

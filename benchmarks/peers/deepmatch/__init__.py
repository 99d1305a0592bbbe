"""DSSM, YouTubeDNN and MIND of deepmatch, in an environment with TensorFlow 2.15."""

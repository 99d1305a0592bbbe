"""Most popular, item-kNN and ALS, in the project's own environment."""

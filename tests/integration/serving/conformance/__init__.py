"""What clients of TensorFlow Serving rely on, case by case, written from its documented behaviour."""

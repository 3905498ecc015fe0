"""A small model made from nothing: its language, its lessons and its training."""

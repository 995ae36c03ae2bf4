"""Embeddings, descriptors and labels to figures with intervals, tests, and a verdict."""

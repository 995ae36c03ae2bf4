"""Embeddings and descriptors to predictions with reasons."""

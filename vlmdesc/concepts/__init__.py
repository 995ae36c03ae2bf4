"""Embeddings of images to what they are near to, and to names for what they show."""

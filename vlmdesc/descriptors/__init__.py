"""Class names to descriptors, and descriptors to the texts an encoder reads."""

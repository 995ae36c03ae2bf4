"""Images and texts to embeddings."""

from vlmdesc.errors import check_urls

check_urls("HF_ENDPOINT")  # here, since huggingface_hub reads it while it is imported, and prints what is wrong with it

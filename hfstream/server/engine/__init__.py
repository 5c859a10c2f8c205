"""Token ids in, token ids out: the model, its batches and its sampling."""

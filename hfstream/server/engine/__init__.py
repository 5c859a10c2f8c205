"""The engine: token ids in, token ids out. Its parts are the model, the KV cache, the scheduler and the sampler."""

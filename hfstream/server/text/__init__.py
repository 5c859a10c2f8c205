"""Conversion between text and token ids: chat template and tokenizer, detokenizer, stop strings and output events."""

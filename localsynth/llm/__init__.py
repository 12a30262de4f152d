"""The language model as files and text: GGUF, tokenizer, adapter, and how a row is written for it."""

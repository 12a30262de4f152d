"""From base model and adapter to a merged, quantized and verified GGUF."""

"""DP-SGD fine-tuning of the base model with LoRA adapters."""

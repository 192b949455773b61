"""Qwen3-ASR as stacks of canary_hub."""

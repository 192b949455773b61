"""Qwen2-Audio as a stack of canary_hub."""

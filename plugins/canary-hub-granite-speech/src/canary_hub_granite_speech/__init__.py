"""Granite Speech as stacks of canary_hub."""

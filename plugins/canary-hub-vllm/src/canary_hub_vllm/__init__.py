"""The LLM of Canary-Qwen by vLLM."""

"""LLM and encoder of Canary-Qwen through OpenVINO, for CPUs."""

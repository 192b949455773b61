"""Canary-Qwen's five stages, with the stage in the name of the file."""

"""What LLM backends over a causal LM of transformers share: tokenizer, decoding loop, options."""

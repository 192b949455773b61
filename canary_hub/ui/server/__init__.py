"""What a public page needs around gradio: limits, the queue, uploads."""

"""Text from causal models: how its next token is chosen (`sampling`, `beams`), and many texts at a time (`batches`)."""

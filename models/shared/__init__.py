"""What video language models over Qwen2 have in common: the decoder, the segmented KV store, the streaming prefill,
bi-level assembly, relevance and token generation. Nothing here knows how frames become visual tokens."""

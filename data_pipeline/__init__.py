"""From raw text to indexed token shards: every stage works on shards, resumes, and needs no torch."""

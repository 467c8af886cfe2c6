"""Pretraining of GPT-2 and BERT (paper section 4): objectives, samples, command line."""

"""Tensor-parallel transformers and their trainer.

Knows tensors and ranks; knows nothing of corpora, benchmarks or workflows. Importing this package imports
no torch, so that `core.config` can be read where torch is not wanted.
"""

"""The network of the family in `no_positions.py`."""

from core.models.gpt2 import GPT2Model


class WithoutPositions(GPT2Model):
    """GPT-2 whose embedding is the token's alone."""

    def make_positions(self):
        pass

    def add_positions(self, values, positions):
        return values

"""The speed that estimates of a first run start from. Nothing that trains imports it: an edit must not retrain."""

TRAINED_PER_S = 600  # tokens, of a base of 135M parameters on two cores without AMX (docs/training.md)

"""Pictures as arrays: decoded, brought to a model's form, augmented."""

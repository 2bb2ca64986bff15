"""What a model file is, read without loading it. No Django, no torch."""

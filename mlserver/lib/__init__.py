"""Small pieces without models that any app may use; each module is named after what it gives."""

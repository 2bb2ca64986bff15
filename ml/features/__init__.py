"""Classical models: features of tables, text and code, learned by scikit-learn, kept as ONNX."""

"""From an exported graph to what TensorRT builds an engine of, and to the engine where there is a GPU."""

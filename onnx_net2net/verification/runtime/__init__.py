"""Both models in onnxruntime: inputs, sessions, noise floor, judgement, sensitivity."""

"""A trained model as an ONNX file: planes in, scores and probabilities out.

`export` writes and checks one (`export_model`). `graph` puts operators together, `layers` writes networks
with it and `decisions` heads. `runtime` is a file that was exported, as a model that scores slices
(`OnnxModel`): it knows ONNX Runtime, and neither PyTorch nor scikit-learn. From outside: `export_model`,
`OnnxModel`.
"""

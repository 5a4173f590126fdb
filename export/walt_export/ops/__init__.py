"""The custom amodal mask operators, domain `walt`: each a torch operator and an ONNX function of standard ones.

The function's body has neither Loop nor If nor other functions, so that every runtime has it and TensorRT can take it
inlined; a runtime with a kernel of that name may run it instead. A name ends in its version: what it computes never
changes under a name. What each computes is said by its reference in `walt_edge.vision.amodal_ops`.
"""

"""How good amodal instances are, against exact truth.

`matching` says which prediction is which object, `amodal_iou` makes tables by occlusion of it, `bootstrap` says how
sure they are, `threshold` finds the score from which on a model is believed, and `motion_baseline` is what has to be
beaten: eyes without weights.
"""

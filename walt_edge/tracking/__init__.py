"""Who is who over time, by amodal boxes.

`tracker` follows objects: each one's `motion`, detections as `found`, the `assignment` of one to the other, and who
is `hiding` behind whom; `tracks` is what it tells, `pictures` draws it.
"""

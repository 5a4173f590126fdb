"""The eyes without weights: what moves, what it is, and whether it is seen whole.

`watcher` goes through a camera's frames: `tending` looks after the plate, `tracking` follows silhouettes, `judging`
(with the `dossiers` of its tracks and a `teacher`, if there is one) says who is whole, `views` keeps the best views,
and `sealing` and `plates` make what is sent home. The arithmetic lies in `walt_edge.vision`.
"""

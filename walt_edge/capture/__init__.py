"""How frames are taken from their sources; `walt_edge.camera` is the face of it.

`files` plays videos and folders. `rtsp` watches a live camera through `decoder`, a process of its own that can
hang, crash or be killed without harm to the agent. `clock` says when.
"""

"""How frames are taken from their sources; `walt_edge.camera` is the face of it.

`files` plays videos and folders. `rtsp` watches a live camera through a process of its own (`child`, `decoder`) that
can hang, crash or be killed without harm to the agent; `stream` connects there, again and again, and `hardware` finds
what decodes. `wire` is what the two say to each other. `clock` and `media_clock` say when.
"""

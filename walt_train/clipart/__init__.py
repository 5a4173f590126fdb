"""Clip art pasted over the camera's own plates: composites whose every layer is known."""

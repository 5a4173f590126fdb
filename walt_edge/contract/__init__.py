"""What everybody shares: messages, topics, ids, masks, errors, the console.

Import the submodules; this package imports nothing, so that a console script starts on the standard library.
"""

"""When a camera is worth another generation: facts read by SQL, and pure functions that judge them."""

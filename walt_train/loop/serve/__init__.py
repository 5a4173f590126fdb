"""The loop by itself: from clip art to a published model, as a table of jobs that survives a kill at any moment."""

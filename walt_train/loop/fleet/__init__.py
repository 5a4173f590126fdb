"""The fleet as home sees it: what devices tell, kept and thinned out, judged, and shown."""

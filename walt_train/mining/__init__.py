"""Mining at the scale of an archive: many recordings and stills of one camera into one folder of clip art."""

"""What training and judging read: amodal samples, composed on the fly or read from COCO files."""

"""The way in: what arrives is checked, admitted, stored in groups and answered."""

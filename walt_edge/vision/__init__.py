"""Amodal and classical vision on numpy and OpenCV; imports only the contract."""

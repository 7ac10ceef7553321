"""Kernels of our own for CPU: C++ sources, compiled on first use, called by MindSpore."""
